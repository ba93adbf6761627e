package crm_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"clerksync/clerk"
	"clerksync/examples/crm"
	"clerksync/functions"
	"clerksync/inbox"
	"clerksync/internal/testenv"
	"clerksync/store"

	"github.com/google/go-cmp/cmp"
)

// nothing stands for the database, which this function does not use.
type nothing struct{}

func (nothing) Apply(context.Context, clerk.User, store.When) (store.Outcome, error) { return "", nil }

func (nothing) Delete(context.Context, string) (store.Outcome, error)    { return "", nil }
func (nothing) WriteMany(context.Context, []store.Write) []store.Written { return nil }
func (nothing) Done(context.Context, string) error                       { return nil }
func (nothing) Fail(context.Context, inbox.Event, inbox.Failure) error   { return nil }

func TestAddContact(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		answers []int // of the CRM, one a request
		failed  bool
	}{
		"taken":                          {answers: []int{201}},
		"taken at the third attempt":     {answers: []int{503, 429, 201}},
		"refused, and not tried again":   {answers: []int{422}, failed: true},
		"refused after it was not there": {answers: []int{500, 401}, failed: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var keys []string
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				var body map[string]string
				if err := json.NewDecoder(r.Body).Decode(&body); err != nil || r.Header.Get("Authorization") != "Bearer key" {
					t.Errorf("got %v, %v", r.Header, err)
				}
				if d := cmp.Diff(map[string]string{"email": "ada@example.com", "name": "Ada Lovelace"}, body); d != "" {
					t.Errorf("contact (-want +got):\n%s", d)
				}
				keys = append(keys, r.Header.Get("Idempotency-Key"))
				w.WriteHeader(tc.answers[len(keys)-1])
			}))
			t.Cleanup(srv.Close)
			client, ex := testenv.NewExecutor(t)
			f := functions.Functions{Users: nothing{}, Inbox: nothing{}, Log: slog.New(slog.DiscardHandler)}
			if err := f.Register(client, crm.AddContact(srv.URL, "key")); err != nil {
				t.Fatal(err)
			}
			r := ex.Run(t, "add-crm-contact", testenv.Event{ID: "msg_1:r1", Name: "clerk/user.created", TS: 1767603600000, Data: json.RawMessage(
				`{"id":"user_a","first_name":"Ada","last_name":"Lovelace","email_addresses":[{"id":"i","email_address":"ada@example.com"}]}`)})
			if r.Failed != tc.failed {
				t.Errorf("got %+v, want failed %v", r, tc.failed)
			}
			if len(keys) != len(tc.answers) || strings.Trim(strings.Join(keys, ""), "msg_1") != "" {
				t.Errorf("got idempotency keys %v, want %d times msg_1", keys, len(tc.answers))
			}
		})
	}
}
