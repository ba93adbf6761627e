package crm_test

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"clerksync/examples/crm"
	"clerksync/functions"
	"clerksync/internal/testenv"

	"github.com/google/go-cmp/cmp"
)

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
				if err := json.NewDecoder(r.Body).Decode(&body); err != nil ||
					r.Header.Get("Authorization") != "Bearer key" {
					t.Errorf("got %v, %v", r.Header, err)
				}
				if d := cmp.Diff(map[string]string{"email": "ada@example.com", "name": "Ada Lovelace"}, body); d != "" {
					t.Errorf("contact (-want +got):\n%s", d)
				}
				keys = append(keys, r.Header.Get("Idempotency-Key"))
				w.WriteHeader(tc.answers[len(keys)-1])
			}))
			t.Cleanup(srv.Close)
			client, ex := testenv.NewExecutor(t, nil)
			f := functions.Functions{
				Log: slog.New(slog.DiscardHandler), Own: []functions.Function{crm.AddContact(srv.URL, "key")},
			}
			if err := f.Register(client, false); err != nil {
				t.Fatal(err)
			}
			r := ex.Run(t, "add-crm-contact", testenv.Event{
				ID: "msg_1:r1", Name: "clerk/user.created",
				TS: 1767603600000, Data: json.RawMessage(
					`{"id":"user_a","first_name":"Ada","last_name":"Lovelace","email_addresses":[{"id":"i",` +
						`"email_address":"ada@example.com"}]}`),
			})
			if r.Failed != tc.failed {
				t.Errorf("got %+v, want failed %v", r, tc.failed)
			}
			if len(keys) != len(tc.answers) || strings.Trim(strings.Join(keys, ""), "msg_1") != "" {
				t.Errorf("got idempotency keys %v, want %d times msg_1", keys, len(tc.answers))
			}
		})
	}
}
