package doctor

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"clerksync/clerk"
	"clerksync/inbox"
	"clerksync/internal/testenv"
	"clerksync/store"
	"clerksync/store/database"
	"clerksync/store/mapping"

	"github.com/prometheus/client_golang/prometheus"
)

// TestTakenAddress: a dead letter that a unique index of the app's has caused is named with the index and both users;
// others are only counted.
func TestTakenAddress(t *testing.T) {
	t.Parallel()
	db := testenv.NewMemory().Connect(t, "test", nil, nil)
	unique := database.Index{Field: "email", Unique: true}
	if err := db.Collection("users").EnsureIndex(t.Context(), unique); err != nil {
		t.Fatal(err)
	}
	users, people := store.NewUsers(db, mapping.Default()), testenv.People(2)
	box := inbox.New(inbox.Options{DB: db, Log: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()})
	why := errors.New("another reason")
	for i, p := range people {
		u := clerk.User{ID: p.ID, Username: fmt.Sprint("u-", i), Email: "same@mail.example"}
		if r := users.Write(t.Context(), []store.Write{{User: u}}, store.All)[0]; r.Err != nil {
			why = r.Err
		}
		e := inbox.Event{ID: fmt.Sprint("msg_", i), Name: "clerk/user.created", Data: []byte("{}")}
		if err := box.Fail(t.Context(), e, inbox.Failure{Error: why.Error()}); err != nil {
			t.Fatal(err)
		}
	}
	var out strings.Builder
	d := &doctor{found: printTo(&out), db: db, now: time.Now()}
	d.on("inbox")(d.inbox(t.Context(), d.on("inbox")))
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 3 || !strings.HasPrefix(lines[2], "warn  inbox      2 failed for good") {
		t.Fatalf("got %s", out.String())
	}
	for _, want := range []string{people[0].ID, people[1].ID, "email_1", "'clerksync deadletters replay msg_1'"} {
		if !strings.Contains(lines[1], want) || strings.Contains(lines[1], "@") {
			t.Errorf("got %q, want %q and no address", lines[1], want)
		}
	}
}
