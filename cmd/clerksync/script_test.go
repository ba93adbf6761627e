package main

import (
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain makes this test binary the command clerksync too, which the scripts of TestScript start.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"clerksync": main})
}

// TestScript runs testdata/script/*.txtar, each in a folder and an environment of its own: what a user types, and the
// exit status, the standard output and the standard error that come of it.
func TestScript(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{Dir: "testdata/script", RequireExplicitExec: true, RequireUniqueNames: true})
}
