package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"clerksync/internal/testenv"
)

// TestSend: what 'send' posts is accepted, and its exit status tells whether it was.
func TestSend(t *testing.T) {
	t.Parallel()
	inngest := newFakeInngest(t)
	settings := good(t)
	settings["INNGEST_DEV"] = inngest.URL
	s := serve(t, settings)
	dir := t.TempDir()
	files := map[string]string{
		"user.json":     `{"id":"user_file","object":"user"}`,
		"envelope.json": `{"type":"user.updated","timestamp":1,"data":{"id":"user_whole","object":"user"}}`,
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, tc := range map[string]struct {
		args []string
		out  string // of a success
		err  string // of a failure
		sent string // in the event
	}{
		"created": {args: []string{"user.created"}, out: "202 Accepted", sent: `"name":"clerk/user.created"`},
		"updated": {
			args: []string{"user.updated", "--user", "user_sent"}, out: "202 Accepted", sent: `"id":"user_sent"`,
		},
		"deleted": {args: []string{"user.deleted"}, out: "stays deleted", sent: `"deleted":true`},
		"phone-only": {
			args: []string{"user.created", "--sample", "phone-only"}, out: "202", sent: "+15555550100",
		},
		"several addresses": {
			args: []string{"user.created", "--sample", "several-addresses"}, out: "202", sent: "idn_2samplePrimary",
		},
		"a user in a file": {
			args: []string{"user.created", "--data", filepath.Join(dir, "user.json")}, out: "202",
			sent: `"id":"user_file"`,
		},
		"an event in one": {
			args: []string{"user.created", "--data", filepath.Join(dir, "envelope.json")}, out: "202",
			sent: `"name":"clerk/user.updated","data":{"id":"user_whole"`,
		},
		"another secret": {
			args: []string{"user.created", "--secret", "whsec_Y2xlcmtzeW5jIHRlc3Qgc2VjcmV0IDI="},
			out:  "400 Bad Request no matching signature", err: "not accepted",
		},
	} {
		t.Run(name, func(t *testing.T) {
			args := append([]string{"send"}, tc.args...)
			if !slices.Contains(args, "--to") {
				args = append(args, "--to", s.url+"/webhooks/clerk")
			}
			var out bytes.Buffer
			err := run(t.Context(), args, environ(settings), &out, &out)
			if !strings.Contains(out.String(), tc.out) {
				t.Errorf("got %q, want %q", &out, tc.out)
			}
			if (err != nil) != (tc.err != "") || err != nil && (!strings.Contains(err.Error(), tc.err) ||
				strings.Contains(err.Error(), "hunter2")) {
				t.Errorf("got error %v, want %q", err, tc.err)
			}
			if tc.sent != "" {
				until(t, "the event is sent", func() bool {
					return slices.ContainsFunc(inngest.sent(), func(e json.RawMessage) bool {
						return strings.Contains(string(e), tc.sent)
					})
				})
			}
		})
	}
}

// TestSendToRedirect: 'send' followed a redirect, such as one to the page of a login, and took that page for the
// answer. Clerk follows none.
func TestSendToRedirect(t *testing.T) {
	t.Parallel()
	login := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/login" {
			http.Redirect(w, r, "/login", http.StatusFound)
		}
	}))
	t.Cleanup(login.Close)
	var out bytes.Buffer
	args := []string{"send", "user.created", "--secret", testenv.Secret, "--to", login.URL + "/webhooks/clerk"}
	err := run(t.Context(), args, nil, &out, io.Discard)
	if err == nil || err.Error() != "the webhook was not accepted" || !strings.HasPrefix(out.String(), "302 Found") {
		t.Errorf("got %q, %v, want 302 and that it was not accepted", &out, err)
	}
}
