package main

import (
	"context"
	"io"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"clerksync/internal/testenv"
	"clerksync/store"
	"clerksync/store/database"
	"clerksync/store/mapping"
)

// TestEnsure: the row of a user whose webhook has not come is written at once, for who has the token.
func TestEnsure(t *testing.T) {
	t.Parallel()
	fake := testenv.NewClerkAPI(t)
	people := testenv.People(3)
	fake.Put(people...)
	const token = "a-token-of-many-characters"
	settings := good(t)
	maps.Copy(settings, map[string]string{
		"CLERK_SECRET_KEY": testenv.ClerkKey, "CLERK_API_URL": fake.URL, "ADMIN_TOKEN": token,
	})
	s := serve(t, settings)
	deleted := `{"type":"user.deleted","data":{"id":"` + people[1].ID + `","object":"user","deleted":true}}`
	if code, text := do(t, testenv.Signed(t, s.url+"/webhooks/clerk", testenv.Secret, "msg_1", time.Now(),
		[]byte(deleted))); code != http.StatusAccepted {
		t.Fatalf("got %d %s, want 202", code, text)
	}
	withRunningDatabase(t, settings, func(_ context.Context, db *database.DB) {
		testenv.Delete(t, store.NewUsers(db, mapping.Default()), people[1].ID) // no Inngest runs the function
	})
	ask := func(method, id, auth string) *http.Request {
		req := request(t, method, s.url+"/users/"+id+"/ensure", "")
		req.Header.Set("Authorization", auth)
		return req
	}
	for name, tc := range map[string]struct {
		req  *http.Request
		code int
		body string
	}{
		"a user of Clerk's": {ask(http.MethodPost, people[0].ID, "Bearer "+token), 200, `"full_name":"Ada Lovelace 0"`},
		"once more":         {ask(http.MethodPost, people[0].ID, "Bearer "+token), 200, `"username":"person-0"`},
		"a deleted user": {
			ask(http.MethodPost, people[1].ID, "Bearer "+token), 410, `{"error":"the user is deleted"}`,
		},
		"nobody": {
			ask(http.MethodPost, "user_nobody", "Bearer "+token), 404,
			`{"error":"no such user at Clerk: an id of Clerk's is user_ and 27 letters`,
		},
		"count": {
			ask(http.MethodPost, "count", "Bearer "+token), 404, `{"error":"no such user at Clerk: an id`,
		},
		"another token": {ask(http.MethodPost, people[0].ID, "Bearer "+token+"x"), 401, "ADMIN_TOKEN"},
		"no token":      {ask(http.MethodPost, people[0].ID, ""), 401, "ADMIN_TOKEN"},
		"by GET":        {ask(http.MethodGet, people[0].ID, "Bearer "+token), 405, ""},
	} {
		if code, body := do(t, tc.req); code != tc.code || !strings.Contains(body, tc.body) {
			t.Errorf("%s: got %d %s, want %d %s", name, code, body, tc.code, tc.body)
		}
	}
	if err := s.stop(); err != nil {
		t.Error(err)
	}
	for id, want := range map[string]string{
		people[2].ID: "", people[1].ID: "the user is deleted, and stays so",
		"user_nobody": "no such user at Clerk: an id", testenv.UserID(time.Now(),
			1): "no such user at Clerk: check the id",
	} {
		out, _, err := command(t, settings, "users", "ensure", id)
		if !says(err, want) || want == "" && !strings.Contains(out, `"full_name": "Ada Lovelace 2"`) {
			t.Errorf("users ensure %s: got %s, %v, want %q", id, out, err, want)
		}
	}
	settings["CLERK_SECRET_KEY"] = ""
	s = serve(t, settings)
	code, body := do(t, ask(http.MethodPost, people[0].ID, "Bearer "+token))
	if code != http.StatusNotImplemented || !strings.Contains(body, "set CLERK_SECRET_KEY") {
		t.Errorf("without a key of Clerk's: got %d %s, want 501", code, body)
	}
	if err := s.stop(); err != nil {
		t.Error(err)
	}
	settings["ADMIN_TOKEN"] = "short"
	if err := run(t.Context(), []string{"serve"}, environ(settings), io.Discard, io.Discard); err == nil ||
		!strings.Contains(err.Error(), "ADMIN_TOKEN is too short: set it to 16") {
		t.Errorf("a short token: got %v", err)
	}
}
