package store

import (
	"strings"
	"testing"

	"clerksync/store/database"
	"clerksync/store/mapping"
)

// TestClashes: an index of the app's that will refuse users is known before it does, with what to do.
func TestClashes(t *testing.T) {
	t.Parallel()
	const text = `collection: members
key: clerkId
fields:
  handle: {from: username, unique: true}
  email: {from: primary_email}
  mail: {from: primary_email, absent: null}
  phone: {from: primary_phone, absent: ""}
  plan: {value: free, when: create}
  banned: {from: banned, absent: null}
  ref: id
  profile.phone: primary_phone
`
	unique := func(fields ...string) database.IndexInfo {
		return database.IndexInfo{Name: strings.Join(fields, "_1_") + "_1", Fields: fields, Unique: true, Nulls: true}
	}
	with := func(ix database.IndexInfo, change func(*database.IndexInfo)) database.IndexInfo {
		change(&ix)
		return ix
	}
	sparse := func(ix *database.IndexInfo) { ix.Sparse = true }
	partial := func(ix *database.IndexInfo) { ix.Partial = true }
	texts := func(ix *database.IndexInfo) { ix.Partial, ix.Nulls = true, false }
	make1 := func(field string) string {
		return `db.getCollection("members").dropIndex("` + field + `_1"); db.getCollection("members").createIndex({` +
			field + `: 1}, {name: "` + field + `_1", unique: true, partialFilterExpression: {` + field + `: ` +
			`{$gt: ""}}})`
	}
	for name, tc := range map[string]struct {
		index   database.IndexInfo
		refused bool
		want    string // "" for no clash
	}{
		"not unique": {
			database.IndexInfo{Name: "mail_1", Fields: []string{"mail"}}, false, "",
		},
		"of the documents":                     {unique("_id"), false, ""},
		"of the key":                           {unique("clerkId"), false, ""},
		"of the user name":                     {unique("handle"), false, ""},
		"of Clerk's id":                        {unique("ref"), false, ""},
		"with Clerk's id":                      {unique("email", "ref"), false, ""},
		"a value that is never absent, though": {unique("banned"), false, ""},
		"unset": {
			unique("email"), false,
			"the unique index email_1 on members refuses a second user without email: make it partial in " +
				"mongosh, " + make1("email"),
		},
		"unset, sparse":  {with(unique("email"), sparse), false, ""},
		"unset, partial": {with(unique("email"), partial), false, ""},
		"unset, deep": {
			unique("profile.phone"), false, `createIndex({"profile.phone": 1}, {name: "profile.phone_1", unique: ` +
				`true, ` +
				`partialFilterExpression: {"profile.phone": {$gt: ""}}})`,
		},
		"null": {
			unique("mail"), true, "clerksync.yaml:6: mail: absent: null is the same for every user without it, and " +
				"the unique index mail_1 on members refuses the second: make the index partial in mongosh, " +
				"" + make1("mail"),
		},
		"null, sparse": {
			with(unique("mail"), sparse), true, "mail_1 on members refuses the second: remove absent",
		},
		"null, partial":         {with(unique("mail"), partial), true, "refuses the second: remove absent"},
		"null, partial by text": {with(unique("mail"), texts), false, ""},
		"text": {with(unique("phone"), texts), true, `clerksync.yaml:7: phone: absent: "" is the ` +
			`same for`},
		"constant": {
			unique("plan"), true, "clerksync.yaml:8: plan: the value is the same for every user, and the unique " +
				"index plan_1 on " +
				"members refuses the second: remove the field from the map, or drop the index",
		},
		"not mapped": {
			unique("slug"), false,
			"the unique index slug_1 on members refuses a second new user, because the map does not write slug: " +
				`make it partial in mongosh, db.getCollection("members").dropIndex("slug_1"); ` +
				`db.getCollection("members").createIndex({slug: 1}, {name: "slug_1", unique: true, ` +
				`partialFilterExpression: {slug: {$exists: true}}})`,
		},
		"not mapped, sparse": {with(unique("slug"), sparse), false, ""},
		"several fields":     {unique("org", "email"), false, "refuses a second user without org and email: make it"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, err := mapping.Parse("clerksync.yaml", []byte(text))
			if err != nil {
				t.Fatal(err)
			}
			got := clashOf(m, tc.index)
			if tc.want == "" {
				if got != nil {
					t.Errorf("got %+v, want none", got)
				}
				return
			}
			if got == nil || got.Refused != tc.refused || got.Index != tc.index.Name ||
				!strings.Contains(got.Text, tc.want) {
				t.Errorf("got %+v, want %v, %s", got, tc.refused, tc.want)
			}
		})
	}
}
