package adopt_test

import (
	"errors"
	"regexp"
	"slices"
	"strings"
	"testing"

	"clerksync/adopt"
	"clerksync/clerk"
	"clerksync/internal/testenv"
	"clerksync/store/database"
	"clerksync/store/mapping"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.mongodb.org/mongo-driver/v2/bson"
)

// fill makes the collections of a shape.
func fill(t *testing.T, db *database.DB, s shape) {
	t.Helper()
	name := s.collection()
	put := func(name string, row rowFunc) {
		var rows []any
		for i, p := range people(s.usernames, s.roles) {
			if d := row(p, i); d != nil {
				rows = append(rows, d)
			}
		}
		if _, err := db.Collection(name).InsertMany(t.Context(), rows); err != nil {
			t.Fatal(err)
		}
	}
	if s.create != nil {
		create := append(bson.D{{Key: "create", Value: name}}, s.create...)
		if err := db.RunCommand(t.Context(), create).Err(); err != nil {
			t.Fatal(err)
		}
	}
	if len(s.indexes) > 0 { // as the driver would not make them: mongoose's, not sparse
		cmd := bson.D{{Key: "createIndexes", Value: name}, {Key: "indexes", Value: s.indexes}}
		if err := db.RunCommand(t.Context(), cmd).Err(); err != nil {
			t.Fatal(err)
		}
	}
	put(name, s.row)
	for other, row := range s.others {
		put(other, row)
	}
}

func (s shape) collection() string {
	if s.name != "" {
		return s.name
	}
	return "users"
}

// api returns a client of a fake Clerk that has the people of a shape.
func api(t *testing.T, s shape) *clerk.API {
	t.Helper()
	fake := testenv.NewClerkAPI(t)
	for _, p := range people(s.usernames, s.roles) {
		fake.Put(p.user(t))
	}
	a, err := clerk.NewAPI(clerk.APIOptions{SecretKey: testenv.ClerkKey, URL: fake.URL, Share: 1})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// bare returns a map without comments and without its collection.
func bare(file []byte) string {
	var lines []string
	for line := range strings.Lines(string(file)) {
		line = strings.TrimRight(regexp.MustCompile(`(^|\s)#.*`).ReplaceAllString(line, ""), " \n")
		if line != "" && !strings.HasPrefix(line, "collection:") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "\n")
}

// TestShapes: thirty collections as apps have them. At least 27 are inferred right without help; of the others each
// gets a question in words, and none a wrong guess. Without a secret key nothing else is inferred either, except where
// a shape says so.
func TestShapes(t *testing.T) {
	t.Parallel()
	all := shapes()
	if len(all) != 30 {
		t.Errorf("got %d shapes, want 30", len(all))
	}
	asked := 0
	for name, s := range all {
		if s.question != "" {
			asked++
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := testenv.NewMemory().Connect(t, "app", nil, nil)
			fill(t, db, s)
			s.check(t, adopt.Options{DB: db, API: api(t, s)})
			s.unkeyedCheck(t, db)
		})
	}
	if right := len(all) - asked; right < 27 {
		t.Errorf("%d of %d are to be inferred, want 27 or more", right, len(all))
	}
}

// check compares what Look proposes with what the shape wants.
func (s shape) check(t *testing.T, o adopt.Options) {
	t.Helper()
	if s.named {
		o.Collection = s.collection()
	}
	r, err := adopt.Look(t.Context(), o)
	if s.question != "" {
		if !errors.As(err, new(adopt.Question)) || !strings.Contains(err.Error(), s.question) {
			t.Errorf("got %v, want a question with %q", err, s.question)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	file := r.File()
	if d := cmp.Diff(s.want, bare(file)); d != "" {
		t.Errorf("another map (-want +got):\n%s\n%s", d, file)
	}
	wellFormed(t, r)
	var off []string
	for _, l := range r.Lines {
		if l.Off {
			off = append(off, l.Field.Path)
		}
	}
	if !slices.Equal(off, s.off) {
		t.Errorf("switched off: got %v, want %v\n%s", off, s.off, file)
	}
	for _, f := range s.leftAlone {
		if !slices.Contains(r.Apps, f) {
			t.Errorf("%s is not among the app's: %v", f, r.Apps)
		}
	}
	text := strings.Join(slices.Concat(r.Clashes, r.Questions), "\n") + string(file)
	for _, want := range s.says {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not said in %s", want, text)
		}
	}
	if len(r.Changes) != s.changes {
		t.Errorf("got %d rows that change, want %d: %v", len(r.Changes), s.changes, r.Changes)
	}
}

// wellFormed checks that the file says what the proposed map is, and that no line of it is too long.
func wellFormed(t *testing.T, r *adopt.Report) {
	t.Helper()
	file := r.File()
	m, err := mapping.Parse("clerksync.yaml", file)
	if err != nil {
		t.Errorf("the service refuses the file: %v\n%s", err, file)
		return
	}
	ignore := cmp.Options{
		cmpopts.IgnoreFields(mapping.Field{}, "Line"), cmpopts.IgnoreFields(mapping.Map{}, "File"), cmpopts.EquateEmpty(),
	}
	if d := cmp.Diff(r.Map, *m, ignore); d != "" {
		t.Errorf("the file is another map than the proposed one (-proposed +file):\n%s", d)
	}
	for line := range strings.Lines(string(file)) {
		if len([]rune(line)) > 121 {
			t.Errorf("a line is too long: %s", line)
		}
	}
}

// unkeyedCheck does the same without a secret key.
func (s shape) unkeyedCheck(t *testing.T, db *database.DB) {
	t.Helper()
	s.off, s.says, s.changes, s.leftAlone = nil, nil, 0, nil
	o := adopt.Options{DB: db}
	if s.named {
		o.Collection = s.collection()
	}
	want := s.want
	if s.unkeyed != "" {
		want = s.unkeyed
	}
	r, err := adopt.Look(t.Context(), o)
	if q := s.question + s.unkeyedQ; q != "" {
		if err == nil || !strings.Contains(err.Error(), q) {
			t.Errorf("without a key: got %v, want a question with %q", err, q)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, bare(r.File())); d != "" {
		t.Errorf("without a key: another map (-want +got):\n%s\n%s", d, r.File())
	}
	wellFormed(t, r)
}

// TestEachDatabase: what Look asks of a database, every one can answer, and nothing is written.
func TestEachDatabase(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		for _, name := range []string{"nested in profile", "posts, likes and comments beside users", "rows from before Clerk"} {
			s := shapes()[name]
			s.name = strings.ReplaceAll(name, " ", "_")
			for i := range s.indexes { // FerretDB v1 knows no sparse index
				s.indexes[i] = slices.DeleteFunc(slices.Clone(s.indexes[i]), func(e bson.E) bool { return e.Key == "sparse" && db.OneProcess })
			}
			fill(t, db, s)
			before, _, err := db.Collections(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			s.named, s.says = true, nil
			s.check(t, adopt.Options{DB: db, API: api(t, s)})
			after, _, err := db.Collections(t.Context())
			byName := cmpopts.SortSlices(func(a, b database.CollectionInfo) bool { return a.Name < b.Name })
			if d := cmp.Diff(before, after, byName); err != nil || d != "" {
				t.Errorf("%s: other collections, %v: %s", name, err, d)
			}
		}
	})
}

// TestStrays: rows without an id of Clerk's that have the address of one of its users are named by their ids alone.
func TestStrays(t *testing.T) {
	t.Parallel()
	db := testenv.NewMemory().Connect(t, "app", nil, nil)
	s := shapes()["rows from before Clerk"]
	fill(t, db, s)
	r, err := adopt.Look(t.Context(), adopt.Options{DB: db, API: api(t, s)})
	if err != nil {
		t.Fatal(err)
	}
	var want []adopt.Stray
	for i, p := range people(false, false) {
		if i%3 == 2 && p.Email != "" {
			want = append(want, adopt.Stray{Row: objectID(i).Hex(), User: p.ID})
		}
	}
	if d := cmp.Diff(want, r.Strays); d != "" || r.Strange != 8 {
		t.Errorf("got %d rows without an id, want 8; strays (-want +got):\n%s", r.Strange, d)
	}
}
