package app_test

import (
	"bytes"
	"cmp"
	"log/slog"
	"strings"
	"testing"

	"clerksync/app"
	"clerksync/history"
	"clerksync/internal/testenv"
	"clerksync/store"
	"clerksync/store/database"
	"clerksync/store/mapping"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// TestUniqueIndexOfTheApp: what a unique index of the app's will refuse is said at start, with the command that helps.
// A map that would fail for the second user is not started with, and nothing is made in the collection.
func TestUniqueIndexOfTheApp(t *testing.T) {
	t.Parallel()
	const fix = `make it partial in mongosh, db.getCollection("members").dropIndex("email_1"); ` +
		`db.getCollection("members").createIndex({email: 1}, {name: "email_1", unique: true, ` +
		`partialFilterExpression: {email: {$gt: ""}}})`
	for name, tc := range map[string]struct {
		field   string // of the index; "" for email
		text    string // "" for the default map
		options *options.IndexOptionsBuilder
		refused string
		logged  string
	}{
		"unset": {
			"", "collection: members\nfields: {email: primary_email}", options.Index().SetUnique(true), "",
			"the unique index email_1 on members refuses a second user without email: " + fix,
		},
		"unset, sparse": {
			"", "collection: members\nfields: {email: primary_email}", options.Index().SetUnique(true).SetSparse(true),
			"", "",
		},
		"null": {
			"", "collection: members\nfields: {email: {from: primary_email, absent: " +
				"null}}", options.Index().SetUnique(true),
			"clerksync.yaml:2: email: absent: null is the same for every user without it, and the unique index " +
				"email_1 on members refuses the second: " + strings.Replace(fix, "it", "the index", 1), "",
		},
		"the default map": {
			"", "", options.Index().SetUnique(true), "",
			"refuses a second user without email: make it partial in mongosh",
		},
		"the default map, sparse": {
			"", "", options.Index().SetUnique(true).SetSparse(true), "",
			"a unique index of the app's on users refuses each user who has the same value as another",
		},
		// Whoever has written no map has run the service with this index before there were maps.
		"the default map, with a name that may be empty": {
			"full_name", "", options.Index().SetUnique(true), "",
			`the default map: full_name: absent: "" is the same for`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lab := testenv.NewLab(t, 1)
			db := lab.Processes[0].DB
			m := mapping.Default()
			if tc.text != "" {
				var err error
				if m, err = mapping.Parse("clerksync.yaml", []byte(tc.text)); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := db.Collection(m.Collection).Indexes().CreateOne(t.Context(), mongo.IndexModel{
				Keys: bson.D{{Key: cmp.Or(tc.field, "email"), Value: 1}}, Options: tc.options,
			}); err != nil {
				t.Fatal(err)
			}
			var log bytes.Buffer
			users := store.NewUsers(withLog(db, &log), m)
			past, got := history.New(db, 0, slog.New(slog.DiscardHandler)), ""
			if err := app.Prepare(t.Context(), withLog(db, &log), users, past); err != nil {
				got = err.Error()
			}
			if got != tc.refused {
				t.Errorf("got  %s\nwant %s", got, tc.refused)
			}
			if text := strings.ReplaceAll(log.String(), `\"`, `"`); !strings.Contains(text, tc.logged) ||
				tc.logged == "" && strings.Contains(text, "email_1") {
				t.Errorf("got log %s\nwant %s", text, tc.logged)
			}
			if lacks, err := users.LacksIndex(t.Context()); lacks != (tc.refused != "") || err != nil {
				t.Errorf("lacks an index: got %v, %v", lacks, err)
			}
		})
	}
}

func withLog(db *database.DB, w *bytes.Buffer) *database.DB {
	return &database.DB{Database: db.Database, OneProcess: db.OneProcess, Log: slog.New(slog.NewTextHandler(w, nil))}
}
