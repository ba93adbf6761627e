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
// exit status, standard output and standard error that come of it. After a deliberate change of a text,
// 'go test ./cmd/clerksync -run TestScript -update' writes the golden files anew.
func TestScript(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{Dir: "testdata/script", RequireExplicitExec: true, RequireUniqueNames: true})
}
