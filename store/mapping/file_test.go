package mapping

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.mongodb.org/mongo-driver/v2/bson"
)

const good = `
collection: members
key: clerkId                      # the field that holds Clerk's id; without it _id does
state: _clerk
fields:                           # replaces the default five
  name: full_name                 # the app's field: what of Clerk's user
  profile.avatarUrl: image_url
  email: {from: primary_email, absent: null}
  handle: {from: username, unique: true}
  role: {from: public_metadata.role, absent: member, when: create}
  bio: {from: public_metadata.bio.text, absent: ""}
  phone: {from: primary_phone, absent: unset}
  isActive: {value: true, when: create}
  updatedAt: {from: now}
`

func TestParse(t *testing.T) {
	t.Parallel()
	got, err := Parse("clerksync.yaml", []byte(good))
	if err != nil {
		t.Fatal(err)
	}
	want := &Map{File: "clerksync.yaml", Collection: "members", Key: "clerkId", State: "_clerk", Fields: []Field{
		{Path: "name", From: "full_name", Line: 6},
		{Path: "profile.avatarUrl", From: "image_url", Line: 7},
		{Path: "email", From: "primary_email", Absent: Absent{Null: true}, Line: 8},
		{Path: "handle", From: "username", Unique: true, Line: 9},
		{Path: "role", From: "public_metadata.role", Absent: Absent{Text: new("member")}, Create: true, Line: 10},
		{Path: "bio", From: "public_metadata.bio.text", Absent: Absent{Text: new("")}, Line: 11},
		{Path: "phone", From: "primary_phone", Line: 12},
		{Path: "isActive", Value: true, Create: true, Line: 13},
		{Path: "updatedAt", From: "now", Line: 14},
	}}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}

// TestParseForms: a map may come in other forms than the usual one.
func TestParseForms(t *testing.T) {
	t.Parallel()
	defaults := func(change func(*Map)) *Map {
		m := Default()
		m.File = "f"
		change(m)
		return m
	}
	for name, tc := range map[string]struct {
		text string
		want *Map
	}{
		"a byte order mark": {"\xef\xbb\xbfcollection: x\n", defaults(func(m *Map) { m.Collection = "x" })},
		"lines of Windows": {
			"collection: x\r\nkey: id\r\n", defaults(func(m *Map) { m.Collection, m.Key = "x", "id" }),
		},
		"JSON":                   {`{"collection": "x"}`, defaults(func(m *Map) { m.Collection = "x" })},
		"document marks":         {"---\nstate: s\n---\n", defaults(func(m *Map) { m.State = "s" })},
		"an anchor that is idle": {"state: &a s\n", defaults(func(m *Map) { m.State = "s" })},
		"names in quotes": {
			"fields: {\"true\": 'full_name', no: id}", defaults(func(m *Map) {
				m.Fields = []Field{{Path: "true", From: "full_name", Line: 1}, {Path: "no", From: "id", Line: 1}}
			}),
		},
		"the default map, written out": {
			"fields:\n email: primary_email\n full_name: {from: full_name, absent: ''}\n" +
				" profile_picture: {from: image_url, absent: ''}\n username: {from: username, unique: true}\n",
			defaults(func(m *Map) {
				for i := range m.Fields {
					m.Fields[i].Line = i + 2
				}
			}),
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := Parse("f", []byte(tc.text))
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tc.want, got); d != "" {
				t.Errorf("-want +got:\n%s", d)
			}
		})
	}
}

// TestConstants: what is written as value has the type that an app in JavaScript would give it.
func TestConstants(t *testing.T) {
	t.Parallel()
	day := bson.NewDateTimeFromTime(time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC))
	for text, want := range map[string]any{
		"true": true, "null": nil, "~": nil, "7": int32(7), "-1": int32(-1), "3000000000": int64(3_000_000_000),
		"1.5": 1.5, "1e3": 1000.0, "free": "free", `"7"`: "7", "yes": "yes",
		"2026-01-02": day, `"2026-01-02"`: "2026-01-02",
		"[]": bson.A{}, "{}": bson.D{}, "[1, [a]]": bson.A{int32(1), bson.A{"a"}}, `""`: "",
		"{b: 1, a: {c: null}}": bson.D{
			{Key: "b", Value: int32(1)}, {Key: "a", Value: bson.D{{Key: "c", Value: nil}}},
		},
		"0x10": int32(16), "9223372036854775807": int64(9223372036854775807),
	} {
		m, err := Parse("f", []byte("fields: {x: {value: "+text+"}}"))
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if d := cmp.Diff(want, m.Fields[0].Value); d != "" {
			t.Errorf("%s: -want +got:\n%s", text, d)
		}
		if _, err := bson.Marshal(bson.D{{Key: "x", Value: m.Fields[0].Value}}); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// TestMistakes: each mistake is one line with its place and what to do.
func TestMistakes(t *testing.T) {
	t.Parallel()
	for _, tc := range [][2]string{ // the text and the mistake
		{"", "1: the file is empty: write a map"},
		{"# nothing\n", "1: the file is empty: write a map"},
		{"null", "1: the file has no names with values"},
		{"- a", "1: the file has no names with values: write lines such as 'collection: members'"},
		{"text", "1: the file has no names with values"},
		{"collection: x\n---\na: b", "2: the file has several documents (---): leave one"},
		{"a: b\n\tc: d", "2: the line begins with a tab: YAML takes only spaces there"},
		{"a: 'b", "1: this is not YAML, found unexpected end of stream"},
		{"a: b: c", "1: this is not YAML, mapping values are not allowed"},
		{"a\xff: b", "1: the file is not UTF-8: save it as UTF-8"},
		{"a: \x00", "1: this is not YAML, control characters are not allowed"},
		{"colection: x", "1: colection is not known here: did you mean collection?"},
		{"something: x", "1: something is not known here: known are collection, key, state, fields"},
		{"name: full_name", "1: name stands beside fields: put it below 'fields:' and indent it"},
		{"collection: x\nkey: a\ncollection: y", "3: the file has collection twice, first in line 1: remove one of " +
			"them"},
		{"collection: 7", "1: collection is no text: write a name, in quotes if it looks like a number"},
		{"collection: ''", "1: collection: it is empty: name the app's collection of users"},
		{"collection:", "1: collection is no text"},
		{"collection: [a]", "1: collection is no text"},
		{"collection: clerksync_state", "1: collection: clerksync_state is not the app's: name"},
		{"collection: system.users", "1: collection: system.users is not the app's: name"},
		{"collection: a$b", "1: collection: a$b is no name of a collection in MongoDB: take"},
		{`collection: "a\0b"`, `1: collection: "a\x00b" is no name of a collection`},
		{"collection: .a", "1: collection: .a is no name of a collection"},
		{"collection: " + strings.Repeat("a", 191), "is no name of a collection in MongoDB: take one without $, of " +
			"at most 190"},
		{"key: primary_email", "1: key: primary_email is what a field is made from, and not where Clerk's id"},
		{"key: public_metadata.id", "1: key: public_metadata.id is what a field is made from"},
		{"key: auth.clerkId", "1: key: auth.clerkId lies inside another field: name a field of its own"},
		{"key: $id", "1: key: a name in it begins with $"},
		{"key: email", "1: the default field and key are both email: choose another"},
		{"key: clerk", "1: state and key are both clerk: choose another field for one of them"},
		{"state: _id", "1: state: _id cannot hold it: name a field of its own, such as _clerk"},
		{"state: a.b", "1: state: a.b lies inside another field"},
		{"state: username", "1: the default field and state are both username"},
		{"fields:", "1: fields has no names with values: write lines such as 'name: full_name' below it"},
		{"fields: {}", "1: fields has no names with values"},
		{"fields: [a, b]", "1: fields has no names with values"},
		{"fields: &x\n  a: {value: *x}", "2: a has an alias (* or <<), which is not followed: write it out"},
		{"fields: &x\n  a: {value: [*x]}", "2: a: the value has an alias (*x), which is not followed: write it out"},
		{"state: &x s\nfields: *x", "2: the file has an alias"},
		{"fields:\n  <<: {a: id}", "2: fields has an alias (* or <<)"},
		{"fields: {[a]: id}", "1: fields has a name that is no text"},
		{"fields: {a: id, a: id}", "1: fields has a twice, first in line 1: remove one of them"},
		{"fields: {a: }", "1: a: there is no source: name one such as full_name, or remove the line"},
		{"fields: {a: [id]}", "1: a: this is no source: write a name such as full_name, or {from: …}"},
		{"fields: {a: true}", "1: a: true is no source: for a constant write {value: true}"},
		{"fields: {a: 7}", "1: a: 7 is no source: for a constant write {value: 7}"},
		{"fields: {a: imageUrl}", "1: a: imageUrl is no source: did you mean image_url?"},
		{"fields: {a: email}", "1: a: email is no source: did you mean primary_email?"},
		{"fields: {a: firstName}", "1: a: firstName is no source: did you mean first_name?"},
		{"fields: {a: full_nam}", "1: a: full_nam is no source: did you mean full_name?"},
		{"fields: {a: name}", "1: a: name is no source: did you mean full_name?"},
		{"fields: {a: userId}", "1: a: userId is no source: did you mean id?"},
		{"fields: {a: role}", "1: a: role is no source: did you mean public_metadata.role?"},
		{"fields: {a: publicMetadata.role}", "1: a: publicMetadata.role is no source: write public_metadata.role"},
		{"fields: {a: unsafeMetadata.x}", "1: a: unsafeMetadata.x is no source: write unsafe_metadata.x"},
		{"fields: {a: favourite_colour}", "1: a: favourite_colour is no source: take one of id, first_name,"},
		{"fields: {a: public_metadata.}", "1: a: public_metadata. has an empty name in it"},
		{"fields: {a: public_metadata..b}", "1: a: public_metadata..b has an empty name in it"},
		{"fields: {a: id.b}", "1: a: id.b is no source"},
		{"fields: {a: private_metadata}", "1: a: private_metadata cannot be mapped: it never leaves Clerk; use public"},
		{"fields: {a: private_metadata.x}", "1: a: private_metadata cannot be mapped: it never leaves Clerk"},
		{"fields: {a: {from: privateMetadata}}", "1: a: private_metadata cannot be mapped: it never leaves Clerk"},
		{"fields: {a: {from: 7}}", "1: a: from is no text: write a source such as full_name"},
		{"fields: {a: {from: }}", "1: a: from is no text: write a source such as full_name"},
		{"fields: {a: {}}", "1: a has no names with values: write {from: …} or {value: …}"},
		{"fields: {a: {form: id}}", "1: a: form is not known here: did you mean from?"},
		{"fields: {a: {from: id, dflt: x}}", "1: a: dflt is not known here: known are from, value, absent, when, " +
			"unique"},
		{"fields: {a: {name: full_name}}", "1: a: name is not known here: for a field inside a write 'a.name: " +
			"full_name'"},
		{"fields: {a: {from: id, value: 1}}", "1: a: it has both from and value: remove one of them"},
		{"fields: {a: {when: create}}", "1: a: it says neither from nor value: add the source"},
		{"fields: {a: {value: 1, absent: x}}", "1: a: a constant is never absent: remove absent"},
		{"fields: {a: {value: }}", "1: a: value is empty: write the constant, or null"},
		{"fields: {a: {value: !!binary aGk=}}", `1: a: the value "aGk=" is of a kind that cannot be stored`},
		{"fields: {a: {value: !x y}}", "1: a: the value y is of a kind that cannot be stored"},
		{"fields: {a: {value: 99999999999999999999999}}", ""},
		{"fields: {a: {value: 0xFFFFFFFFFFFFFFFF}}", "1: a: the value 0xFFFFFFFFFFFFFFFF is of a kind"},
		{"fields: {a: {value: {$a: 1}}}", "1: a: the value has the name $a: names are not empty"},
		{"fields: {a: {value: {a.b: 1}}}", "1: a: the value has the name a.b: names are not empty"},
		{"fields: {a: {value: {a: 1, a: 2}}}", "1: a has a twice"},
		{"fields: {a: {value: " + strings.Repeat("[", 95) + strings.Repeat("]", 95) + "}}", "1: a: the value has " +
			"more than 90 levels"},
		{"fields: {a: {from: id, absent: }}", "1: a: absent is unset, null or a text: put the text in quotes"},
		{"fields: {a: {from: id, absent: 0}}", "1: a: absent is unset, null or a text"},
		{"fields: {a: {from: id, absent: [x]}}", "1: a: absent is unset, null or a text"},
		{"fields: {a: {from: id, when: always}}", "1: a: when may only be create"},
		{"fields: {a: {from: id, when: true}}", "1: a: when may only be create"},
		{"fields: {a: {from: username, unique: yes}}", "1: a: unique is true or false"},
		{"fields: {a: {from: primary_email, unique: true}}", "1: a: unique is for the user name alone, from: username"},
		{"fields: {a: {value: x, unique: true}}", "1: a: unique is for the user name alone"},
		{"fields: {a: {from: username, unique: true, absent: x}}", "1: a: a unique user name is never absent"},
		{"fields: {a: {from: username, unique: true, when: create}}", "1: a: a unique user name is kept up to date"},
		{"fields:\n a: {from: username, unique: true}\n b: {from: username, unique: true}", "3: b: unique is in " +
			"line 2 already"},
		{"fields: {_id: id}", "1: _id: _id is never written: with 'key: _id' it is Clerk's id"},
		{"fields: {_id.x: id}", "1: _id.x: _id is never written"},
		{"fields: {'': id}", `1: "": a name in it is empty`},
		{"fields: {a.: id}", "1: a.: a name in it is empty"},
		{"fields: {.a: id}", "1: .a: a name in it is empty"},
		{"fields: {$set: id}", "1: $set: a name in it begins with $"},
		{"fields: {'a.$[].b': id}", "a name in it begins with $"},
		{"fields: {items.0: id}", "1: items.0: a name in it is a number, which would write into a list"},
		{"fields: {7: id}", "1: 7: a name in it is a number"},
		{`fields: {"a\0": id}`, `1: "a\x00": it holds a NUL`},
		{`fields: {"na\u200bme": id}`, `1: "na\u200bme": it holds U+200B, which cannot be seen`},
		{`fields: {"a\x1b[2J": id}`, "it holds U+001B, which cannot be seen"},
		{`fields: {"a\u202eb": id}`, "it holds U+202E, which cannot be seen"},
		{`fields: {"a\_b": id}`, "it holds U+00A0, which cannot be seen"},
		{`fields: {"a\nb": id}`, "it holds U+000A, which cannot be seen"},
		{`key: "clerkId\ufeff"`, "1: key: it holds U+FEFF, which cannot be seen"},
		{`state: "a\tb"`, "1: state: it holds U+0009, which cannot be seen"},
		{`collection: "us\u200bers"`, "1: collection: it holds U+200B, which cannot be seen"},
		{"fields: {__proto__: id}", "1: __proto__: JavaScript cannot have a field named __proto__"},
		{"fields: {a.__proto__.b: id}", "1: a.__proto__.b: JavaScript cannot have a field named __proto__"},
		{"fields: {a.b.c.d.e.f.g.h.i: id}", "it lies more than 8 levels deep"},
		{"fields:\n a: id\n a.b: id", "3: a.b lies inside a (the field): choose fields that lie apart"},
		{"fields:\n a.b.c: id\n a: id", "3: a.b.c lies inside a (the field)"},
		{"fields: {clerk: id}", "1: the field and state are both clerk"},
		{"fields: {clerk.x: id}", "1: clerk.x lies inside clerk (state)"},
		{"key: k\nfields:\n k: id", "3: the field and key are both k: choose another field for one of them"},
		{"key: k\nfields:\n k.x: id", "3: k.x lies inside k (key)"},
		{`fields: {"a \"b": nope_at_all}`, `1: "a \"b": nope_at_all is no source: take`},
	} {
		text, want := tc[0], tc[1]
		_, err := Parse("f", []byte(text))
		got := ""
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, want) || (got == "") != (want == "") || want != "" && !strings.HasPrefix(got, "f:") {
			t.Errorf("%q:\ngot  %q\nwant %q", text, got, want)
		}
		if len(strings.Split(got, "\n")) > 1 {
			t.Errorf("%q: got several mistakes:\n%s", text, got)
		}
	}
}

// TestAllMistakesAtOnce: whoever mends a file sees all of it, in the order of the lines.
func TestAllMistakesAtOnce(t *testing.T) {
	t.Parallel()
	_, err := Parse("clerksync.yaml", []byte(`colection: members
key: a.b
fields:
  image: imageUrl
  x: {from: private_metadata.y, when: never}
  image: id
`))
	want := `clerksync.yaml:1: colection is not known here: did you mean collection?
clerksync.yaml:2: key: a.b lies inside another field: name a field of its own, without a dot
clerksync.yaml:4: image: imageUrl is no source: did you mean image_url?
clerksync.yaml:5: x: private_metadata cannot be mapped: it never leaves Clerk; use public_metadata
clerksync.yaml:5: x: when may only be create: leave it out for a field that is kept up to date
clerksync.yaml:6: fields has image twice, first in line 4: remove one of them`
	if d := cmp.Diff(want, err.Error()); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}

// TestHugeFiles: a file of any size and any nesting ends soon, with one line.
func TestHugeFiles(t *testing.T) {
	t.Parallel()
	var bomb strings.Builder
	bomb.WriteString("state: s\nx0: &x0 [lol]\n")
	for i := range 9 {
		c := string(rune('0' + i))
		next := string(rune('1' + i))
		bomb.WriteString("x" + next + ": &x" + next + " [" + strings.Repeat("*x"+c+", ", 9) + "*x" + c + "]\n")
	}
	many := "fields:\n"
	for i := range 501 {
		many += "  f" + string(rune('a'+i/26)) + string(rune('a'+i%26)) + ": id\n"
	}
	for name, tc := range map[string]struct{ text, want string }{
		"more than 1 MiB":   {"# " + strings.Repeat("x", maxSize), "f:1: the file is larger than 1 MiB"},
		"a bomb of aliases": {bomb.String(), "f:2: x0 is not known here: known are"},
		"deep lists":        {"fields: {a: {value: " + strings.Repeat("[", 200_000), "f:1: this is not YAML"},
		"a mistake in each line": {
			strings.Repeat("a: b\n", 200_000), "f:1: a is not known here: known are collection, key, state, " +
				"fields\nf:2: the file has",
		},
		"another file": {
			"root:$6$abc/def:20228::: \"7\"\n", "f:1: this line does not begin with collection, key, state, fields: is",
		},
		"many fields": {many, "f:2: there are more than 500 fields: leave out some"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := Parse("f", []byte(tc.text))
			if err == nil || !strings.HasPrefix(err.Error(), tc.want) ||
				strings.Count(err.Error(), "\n") > maxMistakes {
				t.Errorf("got %v, want %s", err, tc.want)
			}
		})
	}
}

func TestLoad(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "map.yaml")
	if err := os.WriteFile(file, []byte("collection: 7"), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		file:                         file + ":1: collection is no text",
		dir:                          "read " + dir + ": it is a folder, or no plain file",
		filepath.Join(dir, "none"):   "stat " + filepath.Join(dir, "none") + ": no such file",
		filepath.Join(file, "below"): "not a directory",
	} {
		if _, err := Load(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", path, err, want)
		}
	}
	if runtime.GOOS == "linux" {
		if _, err := Load("/dev/zero"); err == nil || !strings.Contains(err.Error(), "no plain file") {
			t.Errorf("got %v", err)
		}
	}
}

func TestWarnings(t *testing.T) {
	t.Parallel()
	m, err := Parse("f", []byte(`fields:
  name: {from: full_name, when: create}
  createdAt: {from: now, when: create}
  plan: {value: free, when: create}
  theme: unsafe_metadata.theme
  seen: last_sign_in_at
  terms: {from: legal_accepted_at, absent: never}
`))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"f:2: name: when: create: Clerk's full_name is written when the row is made and is then never updated",
		"f:5: theme: unsafe_metadata.theme: the user can write anything there: never trust it for rights, such as " +
			"a role",
		"f:6: seen: last_sign_in_at: it costs a write for each sign-in, and Clerk does not promise an event for each",
		"f:7: terms: absent: a text in a field of dates, which most models refuse: take unset or null",
	}
	if d := cmp.Diff(want, m.Warnings()); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	if got := Default().Warnings(); got != nil {
		t.Errorf("the default map: got %v", got)
	}
}

// FuzzParse: no file makes the parser panic or hang, and what it takes can be written to a database.
func FuzzParse(f *testing.F) {
	f.Add([]byte(good))
	f.Add([]byte("fields: &a {b: [*a], <<: *a}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := Parse("f", data)
		if err != nil {
			for line := range strings.SplitSeq(err.Error(), "\n") {
				if !strings.HasPrefix(line, "f:") {
					t.Errorf("a line without a place: %q", line)
				}
			}
			return
		}
		for _, field := range m.Fields {
			if _, err := bson.Marshal(bson.D{{Key: "x", Value: field.Value}}); err != nil {
				t.Error(err)
			}
		}
	})
}
