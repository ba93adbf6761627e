package dev

import (
	"os"
	"strings"
	"testing"
)

// TestFindSpoiled: a file that is not as Announce writes it is called so, and no request goes anywhere.
func TestFindSpoiled(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.Mkdir(Folder, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"half of it":           `{"url":"http://127.0.0.1:3000",`,
		"no secret":            `{"url":"http://127.0.0.1:3000"}`,
		"a control character":  `{"url":"http://127.0.0.1:3000/\u001b[31m","secret":"whsec_x"}`,
		"a file":               `{"url":"file:///etc/passwd","secret":"whsec_x"}`,
		"a host without a URL": `{"url":"127.0.0.1:3000","secret":"whsec_x"}`,
	} {
		if err := os.WriteFile(runningFile(), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if r, err := Find(); err == nil || !strings.HasSuffix(err.Error(), "start 'clerksync dev' again") {
			t.Errorf("%s: got %+v %v", name, r, err)
		}
	}
}
