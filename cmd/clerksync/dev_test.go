package main

import (
	"cmp"
	"os"
	"strings"
	"testing"
	"time"

	"clerksync/config"
	"clerksync/internal/testenv"

	"github.com/rogpeppe/go-internal/testscript"
)

// scriptInngest is the command 'inngest' of a script: from now on, 'dev' uses an Inngest that runs the functions which
// are registered with it, at once and without a process of its own. INNGEST_PORT is its port.
func scriptInngest(t *testing.T, ts *testscript.TestScript) {
	t.Helper()
	server := testenv.NewInngest(t).URL
	ts.Setenv("INNGEST_DEV", server)
	ts.Setenv("INNGEST_PORT", server[strings.LastIndexByte(server, ':')+1:])
}

// scriptAwait is the command 'await FILE' of a script: it waits until the file is there, or with '! await FILE' until
// it is gone.
func scriptAwait(ts *testscript.TestScript, gone bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: [!] await FILE")
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); ; <-tick.C {
		if _, err := os.Stat(ts.MkAbs(args[0])); (err != nil) == gone {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%s: waited for %s", args[0], patience)
		}
	}
}

// TestNotLocal: 'dev' does not start with somebody else's database or the key of a production instance, unless that is
// meant.
func TestNotLocal(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ uri, key, want string }{
		"embedded":          {uri: "embedded:./data"},
		"loopback":          {uri: "mongodb://127.0.0.1:27017/app?directConnection=true"},
		"IPv6":              {uri: "mongodb://[::1]:27017"},
		"localhost":         {uri: "mongodb://user:p%40ss@localhost,127.0.0.2:27018/app"},
		"a socket":          {uri: "mongodb://%2Ftmp%2Fmongodb-27017.sock/app"},
		"a development key": {key: "sk_test_hunter2"},
		"elsewhere":         {uri: "mongodb://hunter2:hunter2@db.example/app", want: "MONGODB_URI"},
		"one of two":        {uri: "mongodb://localhost,db.example:27017/app", want: "MONGODB_URI"},
		"like localhost":    {uri: "mongodb://localhost.example/app", want: "MONGODB_URI"},
		"user localhost":    {uri: "mongodb://localhost:x@192.0.2.1/app", want: "MONGODB_URI"},
		"all addresses":     {uri: "mongodb://0.0.0.0/app", want: "MONGODB_URI"},
		"Atlas":             {uri: "mongodb+srv://localhost.hunter2.example/app", want: "MONGODB_URI"},
		"a live key":        {key: "sk_live_hunter2", want: "CLERK_SECRET_KEY"},
	} {
		cfg := config.Config{MongoURI: cmp.Or(tc.uri, "embedded:./data"), SecretKey: tc.key}
		err := devCmd{}.checkLocal(cfg)
		if (err != nil) != (tc.want != "") || err != nil && !strings.HasPrefix(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want %q", name, err, tc.want)
		}
		if err != nil && (strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "\n")) {
			t.Errorf("%s: it quotes a secret, or has two lines: %v", name, err)
		}
		if err := (devCmd{NotLocal: true}).checkLocal(cfg); err != nil {
			t.Errorf("%s: though it is meant: %v", name, err)
		}
	}
}
