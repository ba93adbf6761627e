package mapping

import (
	"testing"
	"time"

	"clerksync/clerk"

	"go.mongodb.org/mongo-driver/v2/bson"
)

func raw(t *testing.T, v any) bson.RawValue {
	t.Helper()
	kind, value, err := bson.MarshalValue(v)
	if err != nil {
		t.Fatal(err)
	}
	return bson.RawValue{Type: kind, Value: value}
}

// TestSame: which values of a row count as what Clerk says.
func TestSame(t *testing.T) {
	t.Parallel()
	const big = 1 << 53
	for name, tc := range map[string]struct {
		a, b any
		want bool
	}{
		"32 and 64 bits":                {int32(7), int64(7), true},
		"a whole double":                {int64(7), 7.0, true},
		"another number":                {int64(7), 7.5, false},
		"beyond a double's digits":      {int64(big + 1), float64(big), false},
		"the largest of 64 bits":        {int64(1<<63 - 1), float64(1 << 63), false},
		"the smallest of 64 bits":       {int64(-1 << 63), float64(-1 << 63), false}, // a double of it may be another's
		"zero and minus zero":           {int64(0), 0.0, true},
		"huge":                          {1e300, 1e300, true},
		"a number and a text":           {int64(7), "7", false},
		"a number and a bool":           {int64(1), true, false},
		"null and nothing in an object": {bson.D{{Key: "a", Value: nil}}, bson.D{}, false},
		"fields in another order": {
			bson.D{{Key: "a", Value: 1}, {Key: "b", Value: "x"}},
			bson.D{{Key: "b", Value: "x"}, {Key: "a", Value: 1.0}},
			true,
		},
		"lists in another order":   {bson.A{1, 2}, bson.A{2, 1}, false},
		"a longer list":            {bson.A{1}, bson.A{1, 1}, false},
		"a list and an object":     {bson.A{1}, bson.D{{Key: "0", Value: 1}}, false},
		"a date and a number":      {bson.DateTime(7), int64(7), false},
		"a decimal and a number":   {bson.NewDecimal128(0, 7), int64(7), false},
		"decimals":                 {bson.NewDecimal128(0, 7), bson.NewDecimal128(0, 7), true},
		"texts in another case":    {"a", "A", false},
		"empty list, empty object": {bson.A{}, bson.D{}, false},
	} {
		a, b := raw(t, tc.a), raw(t, tc.b)
		if got, back := same(a, b), same(b, a); got != tc.want || back != tc.want {
			t.Errorf("%s: got %v and %v, want %v", name, got, back, tc.want)
		}
	}
}

// TestHash: which maps need that the rows are written again.
func TestHash(t *testing.T) {
	t.Parallel()
	base := []Field{{Path: "name", From: "full_name"}, {Path: "image", From: "image_url"}}
	h := func(fields ...Field) string {
		return Compile(&Map{Key: "clerkId", State: "clerk", Fields: fields}, nil).Hash
	}
	image := func(a Absent) Field { return Field{Path: "image", From: "image_url", Absent: a} }
	of := h(base...)
	if of == "" {
		t.Error("a map of other fields than the default has no hash")
	}
	if got := Compile(Default(), nil).Hash; got != "" {
		t.Errorf("the default map has the hash %q, want none", got)
	}
	for name, tc := range map[string]struct {
		fields []Field
		same   bool
	}{
		"another order, other lines":   {[]Field{{Path: "image", From: "image_url", Line: 7}, base[0]}, true},
		"a field of the creation":      {append(base[:2:2], Field{Path: "role", Value: "x", Create: true}), true},
		"a field more":                 {append(base[:2:2], Field{Path: "role", Value: "x"}), false},
		"another source":               {[]Field{base[0], {Path: "image", From: "locale"}}, false},
		"another path":                 {[]Field{base[0], {Path: "photo", From: "image_url"}}, false},
		"null if absent":               {[]Field{base[0], image(Absent{Null: true})}, false},
		"an empty text if absent":      {[]Field{base[0], image(Absent{Text: new("")})}, false},
		"a field less":                 {base[:1], false},
		"a field of the creation only": {[]Field{base[0], {Path: "image", From: "image_url", Create: true}}, false},
	} {
		if got := h(tc.fields...); (got == of) != tc.same {
			t.Errorf("%s: got %q beside %q, want that they are the same: %v", name, got, of, tc.same)
		}
	}
}

// TestHashOfConstants: a number that was meant to be a text is another constant.
func TestHashOfConstants(t *testing.T) {
	t.Parallel()
	had := map[string]any{}
	for _, v := range []any{
		nil, "", "<nil>", int32(1), "1", 1.5, "1.5", true, "true",
		bson.A{int32(1)},
		bson.A{"1"},
		bson.A{"1", "2"},
		bson.A{"1 2"},
		bson.D{},
		bson.D{{Key: "a", Value: int32(1)}},
		bson.D{{Key: "a", Value: "1"}},
		bson.DateTime(1),
	} {
		h := hash([]Field{{Path: "level", Value: v}})
		if other, twice := had[h]; twice {
			t.Errorf("%#v and %#v have the same hash", v, other)
		}
		had[h] = v
	}
}

// TestDefaultMapReadsNoDetails: the default map does not parse the user a second time.
func TestDefaultMapReadsNoDetails(t *testing.T) {
	f := Compile(Default(), nil)
	u := clerk.User{ID: "user_ada", Object: []byte(`{"first_name":"Ada"}`)}
	cheap := testing.AllocsPerRun(100, func() {
		if _, err := f.Values(u, "ada", time.Time{}, true); err != nil {
			t.Fatal(err)
		}
	})
	if cheap > 8 {
		t.Errorf("%v allocations, want 8 at the most", cheap)
	}
}
