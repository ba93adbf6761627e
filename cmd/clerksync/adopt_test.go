package main

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http/httptest"

	"clerksync/internal/testenv"
	"clerksync/store/database"

	"github.com/rogpeppe/go-internal/testscript"
	"go.mongodb.org/mongo-driver/v2/bson"
)

// scriptInsert is the command 'insert DIR FILE' of a script: it inserts the documents of a JSON file, lists by
// collection, into the database clerksync of the embedded database in a folder.
func scriptInsert(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: insert DIR FILE")
	}
	var collections map[string]bson.A
	ts.Check(bson.UnmarshalExtJSON([]byte(ts.ReadFile(args[1])), false, &collections))
	ctx := context.Background()
	uri := database.EmbeddedPrefix + ts.MkAbs(args[0])
	db, err := database.Open(ctx, uri, "clerksync", slog.New(slog.DiscardHandler))
	ts.Check(err)
	for name, rows := range collections {
		_, err := db.Collection(name).InsertMany(ctx, rows)
		ts.Check(err)
	}
	ts.Check(db.Close(ctx))
}

// scriptClerk is the command 'clerk FILE' of a script: it starts a fake of Clerk's API with the users of a JSON file,
// and sets the environment for it.
func scriptClerk(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: clerk FILE")
	}
	var users []json.RawMessage
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[0])), &users))
	fake := testenv.NewClerkHandler()
	for _, raw := range users {
		var u testenv.ClerkUser
		ts.Check(json.Unmarshal(raw, &struct {
			ID *string `json:"id"`
		}{&u.ID}))
		u.Raw = raw
		fake.Put(u)
	}
	server := httptest.NewServer(fake)
	ts.Defer(server.Close)
	ts.Setenv("CLERK_API_URL", server.URL)
	ts.Setenv("CLERK_SECRET_KEY", testenv.ClerkKey)
}
