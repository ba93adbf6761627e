package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"unicode"

	"clerksync/internal/testenv"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain makes this test binary the command clerksync too, which the scripts of TestScript start, and a program that
// behaves as mongod does.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"clerksync":   main,
		"like-mongod": func() { os.Exit(testenv.Mongod(os.Args[1:], os.Stdout)) },
	})
}

// TestScript runs testdata/script/*.txtar, each in a folder and an environment of its own: what a user types, and the
// exit status, the standard output and the standard error that come of it.
func TestScript(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script", RequireExplicitExec: true, RequireUniqueNames: true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"insert": scriptInsert, "clerk": scriptClerk, "await": scriptAwait,
			"inngest": func(ts *testscript.TestScript, _ bool, _ []string) { scriptInngest(t, ts) },
			// 'freeport NAME' sets the variable to a port that nobody else takes.
			"freeport": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Setenv(args[0], fmt.Sprint(testenv.FreePort(t)))
			},
		},
	})
}

// TestOddIDs: what a command is given and prints again cannot move the cursor of a terminal, and stays one line that
// can be read, however long it is.
func TestOddIDs(t *testing.T) {
	t.Parallel()
	settings := []string{"MONGODB_URI=embedded:" + t.TempDir(), "CLERK_WEBHOOK_SIGNING_SECRET=" + testenv.Secret}
	for name, odd := range map[string]string{
		"control characters": "msg\x1b[2J\r\x00\u009b", "two lines": "msg\nFAIL", "the other direction": "msg\u202e",
		"no UTF-8": "msg\xff", "long": strings.Repeat("ä", 100_000), "empty": "",
	} {
		for _, args := range [][]string{
			{},
			{"deadletters", "show"},
			{"deadletters", "replay"},
			{"deadletters", "drop"},
			{"send"},
			{"users", "show"},
			{"users", "export"},
			{"users", "erase"},
		} {
			err := run(t.Context(), append(args, odd), settings, io.Discard, io.Discard)
			if err == nil {
				t.Errorf("%s, %s: got no error", name, args)
				continue
			}
			bad := func(r rune) bool { return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) }
			if text := err.Error(); strings.ContainsFunc(text, bad) || len(text) > 1000 {
				t.Errorf("%s, %s: got %.300q", name, args, text)
			}
		}
	}
}

// TestFullDisk: what cannot be printed is an error that says so.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip("needs /dev/full")
	}
	defer full.Close()
	for _, args := range [][]string{{"version"}, {"mail", "preview"}, {"--help"}} {
		err := run(t.Context(), args, nil, full, io.Discard)
		if err == nil || !strings.HasSuffix(err.Error(), "no space left on device") {
			t.Errorf("%s: got %v", args, err)
		}
	}
}
