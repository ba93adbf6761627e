package adopt_test

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"clerksync/adopt"
	"clerksync/clerk"
	"clerksync/internal/testenv"
	"clerksync/reconcile"
	"clerksync/store"
	"clerksync/store/database"
	"clerksync/store/mapping"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
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
		cmpopts.IgnoreFields(mapping.Field{}, "Line"), cmpopts.IgnoreFields(mapping.Map{}, "File"),
		cmpopts.EquateEmpty(),
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
		for _, name := range []string{
			"nested in profile", "posts, likes and comments beside users",
			"rows from before Clerk",
		} {
			s := shapes()[name]
			s.name = strings.ReplaceAll(name, " ", "_")
			for i := range s.indexes { // FerretDB v1 knows no sparse index
				s.indexes[i] = slices.DeleteFunc(slices.Clone(s.indexes[i]), func(e bson.E) bool {
					return e.Key == ""+
						"sparse" && db.OneProcess
				})
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

// TestStrayWithAddress: no _id that may be personal is named, and no long one.
func TestStrayWithAddress(t *testing.T) {
	t.Parallel()
	db := testenv.NewMemory().Connect(t, "app", nil, nil)
	s := shapes()["rows from before Clerk"]
	fill(t, db, s)
	all := people(false, false)
	document := bson.D{{Key: "a", Value: all[0].Email}}
	for i, id := range []any{all[0].Email, strings.Repeat("x", 5000), "\x1b[2J", document} {
		row := bson.D{{Key: "_id", Value: id}, {Key: "email", Value: all[i].Email}, {Key: "name", Value: "x"}}
		if _, err := db.Collection(s.collection()).InsertOne(t.Context(), row); err != nil {
			t.Fatal(err)
		}
	}
	r, err := adopt.Look(t.Context(), adopt.Options{DB: db, API: api(t, s)})
	if err != nil {
		t.Fatal(err)
	}
	for _, stray := range r.Strays {
		if len(stray.Row) > 100 || strings.ContainsAny(stray.Row, "@\x1b") {
			t.Errorf("the row is named %.50q", stray.Row)
		}
	}
	if len(r.Strays) < 9 {
		t.Errorf("got %d strays, want those with an odd _id too", len(r.Strays))
	}
}

// TestManyFields: neither an object with a field for each day nor thousands of fields hide the key.
func TestManyFields(t *testing.T) {
	t.Parallel()
	for name, n := range map[string]int{"an object": 600, "fields": 0} {
		s := shape{row: func(p person, i int) bson.D {
			var days bson.D
			for k := range 600 {
				days = append(days, bson.E{Key: fmt.Sprint("day", k), Value: int32(k)})
			}
			if n > 0 {
				return doc(i, "streak", days, "clerkId", p.ID, "email", or(p.Email, none{}))
			}
			return append(append(doc(i, "email", or(p.Email, none{})), days...), bson.E{Key: "clerkId", Value: p.ID})
		}}
		db := testenv.NewMemory().Connect(t, "app", nil, nil)
		fill(t, db, s)
		r, err := adopt.Look(t.Context(), adopt.Options{DB: db, API: api(t, s)})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if r.Map.Key != "clerkId" || !strings.Contains(string(r.File()), "\n  email: primary_email") {
			t.Errorf("%s: got key %s and the map\n%.500s", name, r.Map.Key, r.File())
		}
	}
}

// TestBackfill: with the proposed map, a backfill changes what was announced and nothing else, and a second one changes
// nothing. What the app has besides stays as it is.
func TestBackfill(t *testing.T) {
	t.Parallel()
	for name, s := range shapes() {
		if s.question != "" || name == "doubles of the same user" { // over which the service would not start
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := testenv.NewMemory().Connect(t, "app", nil, nil)
			fill(t, db, s)
			o := adopt.Options{DB: db, API: api(t, s), Collection: s.collection()}
			r, err := adopt.Look(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			rows := func() map[string]bson.Raw {
				byID := map[string]bson.Raw{}
				all, _, err := db.Collection(s.collection()).Sample(t.Context(), 1000, 1<<20)
				if err != nil {
					t.Fatal(err)
				}
				for _, row := range all {
					byID[row.Lookup("_id").String()] = row
				}
				return byID
			}
			before := rows()
			users := store.NewUsers(db, &r.Map)
			if err := users.Setup(t.Context()); err != nil {
				t.Fatal(err)
			}
			outcomes := func(dry bool) reconcile.Progress {
				run := &reconcile.Reconcile{
					API: o.API, Users: users, State: database.NewCheckpoints(db), Log: slog.New(slog.DiscardHandler),
					StepTime: time.Minute, DryRun: dry, Restart: true,
				}
				p, err := run.Run(t.Context(), reconcile.Start(reconcile.Backfill, ""), nil)
				if err != nil || !dry && p.Found.Failed != s.fails {
					t.Fatalf("backfill: %d failed, %v", p.Found.Failed, err)
				}
				return p
			}
			outcomes(false)
			announced := map[string][]string{}
			for _, c := range r.Changes {
				for _, f := range c.Fields {
					announced[c.Row] = append(announced[c.Row], f.Name)
				}
			}
			after := rows()
			for id, was := range before {
				is, there := after[id]
				if !there {
					t.Errorf("row %s is gone", id)
					continue
				}
				got := changed(was, is, r)
				if want := announced[idOf(was)]; !slices.Equal(got, want) {
					t.Errorf("row %s: the backfill changed %v, announced was %v\n%v\n%v", id, got, want, was, is)
				}
			}
			if p := outcomes(true); p.Outcomes[store.Unchanged] != p.Listed-s.fails {
				t.Errorf("a second backfill would write: %v of %d users", p.Outcomes, p.Listed)
			}
		})
	}
}

func idOf(row bson.Raw) string {
	if o, ok := row.Lookup("_id").ObjectIDOK(); ok {
		return o.Hex()
	}
	return row.Lookup("_id").StringValue()
}

// changed returns the fields that differ between two states of a row, besides clerksync's own state and the times of
// the write, in the order of the map. Fields that are not in the map are named too.
func changed(was, is bson.Raw, r *adopt.Report) (names []string) {
	own := r.Map.State
	for _, f := range r.Map.Fields {
		a, _ := was.LookupErr(strings.Split(f.Path, ".")...)
		b, _ := is.LookupErr(strings.Split(f.Path, ".")...)
		if f.From != mapping.Now && !a.Equal(b) {
			names = append(names, f.Path)
		}
	}
	mapped := func(top string) bool {
		return top == own || slices.ContainsFunc(r.Map.Fields, func(f mapping.Field) bool {
			return f.Path == top || strings.HasPrefix(f.Path, top+".")
		})
	}
	for _, pair := range [][2]bson.Raw{{was, is}, {is, was}} {
		elements, _ := pair[0].Elements()
		for _, e := range elements {
			if !mapped(e.Key()) && !pair[1].Lookup(e.Key()).Equal(e.Value()) {
				names = append(names, "the app's "+e.Key())
			}
		}
	}
	return names
}

// TestForbidden: that the database's user may not look is told apart from other errors and from questions.
func TestForbidden(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		err  error
		want bool
	}{
		"a lacking right": {fmt.Errorf("list: %w", database.Redact(mongo.CommandError{Code: 13})), true},
		"another refusal": {database.Redact(mongo.CommandError{Code: 18}), false},
		"a question":      {adopt.Question("which?"), false},
		"nothing":         {nil, false},
	} {
		if got := adopt.IsForbidden(tc.err); got != tc.want {
			t.Errorf("%s: got %v, want %v", name, got, tc.want)
		}
	}
}

// TestUnlisted: a database that does not list its collections is not called empty.
func TestUnlisted(t *testing.T) {
	t.Parallel()
	const commandNotFound = 59
	uri := testenv.NewMemory().Listen(t, func(command string) int32 {
		if command == "listCollections" {
			return commandNotFound
		}
		return 0
	})
	db := testenv.Connect(t, uri, "app")
	fill(t, db, shape{name: "members", row: shapes()["rows from before Clerk"].row})
	_, err := adopt.Look(t.Context(), adopt.Options{DB: db})
	if want := "which collection has your app's users?"; err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("got %v, want %s", err, want)
	}
	r, err := adopt.Look(t.Context(), adopt.Options{DB: db, Collection: "members"})
	if err != nil || r.Map.Key != "clerkId" {
		t.Errorf("got %v, want the map of members", err)
	}
}

// TestFewRows: with one or two rows, what is proposed is still right, and no value of a single user becomes a constant.
func TestFewRows(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]string{
		1: "key: clerkId\nfields:\n  name: full_name\n  email: primary_email\n  photo: image_url",
		2: "key: clerkId\nfields:\n  name: full_name\n  email: primary_email\n  photo: image_url",
	} {
		s := shape{row: func(p person, i int) bson.D {
			if i >= n {
				return nil
			}
			return doc(i, "clerkId",
				p.ID, "name", p.name(), "email", p.Email, "photo", p.Image, "city", "Berne",
				"active", true,
				"registeredAt", bson.DateTime(p.Created))
		}}
		db := testenv.NewMemory().Connect(t, "app", nil, nil)
		fill(t, db, s)
		r, err := adopt.Look(t.Context(), adopt.Options{DB: db, API: api(t, s)})
		if err != nil {
			t.Fatal(err)
		}
		got, _, _ := strings.Cut(bare(r.File()), "\n  registeredAt:")
		if got != want {
			t.Errorf("%d rows: got\n%s\nwant\n%s", n, got, want)
		}
	}
}

// TestOddRows: rows of any kind neither end Look nor make a file that the service refuses, and no text of a row can
// write a line of its own into the file.
func TestOddRows(t *testing.T) {
	t.Parallel()
	names := []string{
		"email", "name", "image", "a.b", "$set", "", "0", "12", "ü", "a b", "true", "null", "~", "- x", "#", "a: b",
		"x\ny: z",
		"\u2028", "\x1b[2J", "\u202e", "__v", "clerk", "_clerk", "role", "createdAt",
		"updatedAt", "username", "profile",
		strings.Repeat("long", 300), "\"", "'", "{}", "[1]", "@", "%", "*a", "&a", "!!int", "y", "0x1f", "1e3", "" +
			"\u0085",
	}
	maps := 0
	for seed := range uint64(100) {
		rng := rand.New(rand.NewPCG(seed, 1))
		all := people(true, true)
		var value func(depth int) any
		value = func(depth int) any {
			switch rng.IntN(40) {
			case 0:
				return nil
			case 1:
				return rng.IntN(2) == 0
			case 2:
				return int32(rng.IntN(3))
			case 3:
				return rng.Int64()
			case 4:
				return []float64{0, 1, 1.5, math.NaN(), math.Inf(1), 1e300, math.Copysign(0, -1)}[rng.IntN(7)]
			case 5:
				return bson.DateTime(rng.Int64N(1 << 50))
			case 6:
				return bson.A{"x", all[rng.IntN(24)].ID}
			case 7, 8:
				d := bson.D{}
				for range rng.IntN(4) * (4 - depth) {
					d = append(d, bson.E{Key: names[rng.IntN(len(names))], Value: value(depth + 1)})
				}
				return d
			case 9:
				return all[rng.IntN(24)].ID
			case 10:
				return all[rng.IntN(24)].Email
			case 11:
				return bson.Regex{Pattern: "x"}
			case 12:
				return bson.Binary{Data: []byte{0xff}}
			case 13:
				return []string{"unset", "null", "a\nb: c", "# x", "\x00", "\xff", "\u202e", "user"}[rng.IntN(8)]
			}
			return names[rng.IntN(len(names))]
		}
		used := names[:3+rng.IntN(len(names)-3)]
		constant := value(4)
		kinds := make([]int, len(used)) // by name
		for i := range kinds {
			kinds[i] = rng.IntN(6)
		}
		row := func(p person, i int) bson.D {
			d := bson.D{{Key: "_id", Value: int64(i)}, {Key: "clerkId", Value: p.ID}}
			for n, name := range used {
				switch kinds[n] {
				case 0:
					d = append(d, bson.E{Key: name, Value: value(0)})
				case 1:
					d = append(d, bson.E{Key: name, Value: constant})
				default:
					d = append(d, bson.E{Key: name, Value: []any{p.Email, p.name(), p.Image, p.Username}[kinds[n]-2]})
				}
			}
			return d
		}
		s := shape{usernames: true, roles: true, name: "odd", row: row}
		db := testenv.NewMemory().Connect(t, "app", nil, nil)
		fill(t, db, s)
		for _, o := range []adopt.Options{{DB: db, Collection: "odd"}, {DB: db, Collection: "odd", API: api(t, s)}} {
			r, err := adopt.Look(t.Context(), o)
			switch {
			case errors.As(err, new(adopt.Question)) && !strings.Contains(err.Error(), "refuse"):
			case err != nil:
				t.Fatalf("seed %d: %v", seed, err)
			default:
				maps++
				wellFormed(t, r)
			}
		}
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	if maps < 50 {
		t.Errorf("only %d of 200 looks came to a map: the rows are too odd to test the file", maps)
	}
}
