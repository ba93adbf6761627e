package functions_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"clerksync/internal/testenv"
)

// TestSteps: the work is one named step, which shows ids and the outcome on Inngest's page. A server with a checkpoint
// API needs one request for it, another two.
func TestSteps(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		fn, data, step, want string
	}{
		"a sign-up":  {syncUser, user, "write-user", `{"user_id":"user_a","outcome":"created"}`},
		"a change":   {updateUser, user, "write-user", `{"user_id":"user_a","outcome":"created"}`},
		"a deletion": {deleteUser, `{"id":"user_a","deleted":true}`, "delete-user", `{"user_id":"user_a","outcome":"deleted"}`},
		"a mail":     {sendWelcome, "", "send-mail", `{"user_id":"user_a","outcome":"sent"}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for server, requests := range map[string]int{"no checkpoints": 2, "checkpoints": 1, "checkpoints not known": 2} {
				p := newPost(t, testenv.SMTPOptions{}, false, servers[server])
				e := signUp("msg_1", 0)
				if tc.data != "" {
					e.Data = json.RawMessage(tc.data)
				}
				if requests == 2 {
					code, _, body := newPost(t, testenv.SMTPOptions{}, false, servers[server]).Call(t.Context(), t, tc.fn, e, nil, 0, 21)
					var ops []struct {
						Op   string          `json:"op"`
						Name string          `json:"name"`
						Data json.RawMessage `json:"data"`
					}
					if err := json.Unmarshal(body, &ops); err != nil || code != http.StatusPartialContent || len(ops) != 1 {
						t.Fatalf("%s: got %d %s, %v", server, code, body, err)
					}
					if o := ops[0]; o.Op != "StepRun" || o.Name != tc.step || string(o.Data) != tc.want {
						t.Errorf("%s: got %s, want step %s with %s", server, body, tc.step, tc.want)
					}
				}
				r := p.Run(t, tc.fn, e)
				if string(r.Output) != tc.want || r.Attempts != requests {
					t.Errorf("%s: got %s %s in %d requests, want %s in %d", server, r.Output, r.Error, r.Attempts, tc.want, requests)
				}
			}
		})
	}
}

// TestStepAgain: a step whose result was lost after its work, with the answer or before the checkpoint, is done again,
// which changes nothing.
func TestStepAgain(t *testing.T) {
	t.Parallel()
	for server, checkpoint := range servers {
		t.Run(server, func(t *testing.T) {
			t.Parallel()
			p := newPost(t, testenv.SMTPOptions{}, false, checkpoint)
			for _, tc := range []struct{ fn, data, want string }{
				{syncUser, user, "unchanged"},
				{updateUser, strings.Replace(user, "Lovelace", "King", 1), "unchanged"},
				{sendWelcome, "", "sent before"},
				{deleteUser, `{"id":"user_a","deleted":true}`, "deleted"},
			} {
				e := signUp("msg_"+tc.fn, 0)
				if tc.data != "" {
					e.Data = json.RawMessage(tc.data)
				}
				p.pending(e.ID)
				p.Call(t.Context(), t, tc.fn, e, nil, 0, 21) // its answer is lost
				if r := p.Run(t, tc.fn, e); !strings.Contains(string(r.Output), `"`+tc.want+`"`) {
					t.Errorf("%s: got %s %s, want %s", tc.fn, r.Output, r.Error, tc.want)
				}
			}
			if got := len(p.smtp.Mails()); got != 1 {
				t.Errorf("got %d mails, want 1", got)
			}
			if left := p.left(t); len(left) != 1 || left[0] != "msg_"+sendWelcome { // which is not the mail's to clear
				t.Errorf("left in the inbox: %v", left)
			}
		})
	}
}
