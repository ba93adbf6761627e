package program

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// TestFind: a program is found by any of its names; a missing one has the test skipped with a line that says how to get
// it, or failed where nothing may be skipped.
func TestFind(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("its programs are shell scripts")
	}
	p := Program{Names: []string{"first", "second"}, Get: "apt-get install first"}
	const missing = "first or second is not on PATH (apt-get install first)"
	tests := map[string]struct {
		there []string
		env   string
		want  string // the path's base, or how the test ended
	}{
		"the first":                {there: []string{"first", "second"}, want: "first"},
		"only the second":          {there: []string{"second"}, env: "required", want: "second"},
		"in one of the folders":    {there: []string{"15/bin/second"}, want: "second"},
		"missing":                  {want: "skipped: " + missing},
		"missing but required":     {env: "required", want: "failed: " + missing + "; " + Env + "=required does"},
		"a word that has no sense": {env: "yes", want: `failed: ` + Env + `=yes: want "required" or nothing`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			t.Setenv("PATH", dir)
			t.Setenv(Env, tt.env)
			for _, name := range tt.there {
				file := filepath.Join(dir, name)
				err := os.MkdirAll(filepath.Dir(file), 0o700)
				if err := errors.Join(err, os.WriteFile(file, []byte("#!/bin/sh\n"), 0o700)); err != nil {
					t.Fatal(err)
				}
			}
			p.Dirs = filepath.Join(dir, "*", "bin")
			if got := find(t, p); !strings.HasPrefix(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// find returns what became of a test that looks for p.
func find(t *testing.T, p Program) string {
	f := &fake{TB: t}
	path, ended := "", make(chan struct{})
	go func() {
		defer close(ended)
		path = Find(f, p)
	}()
	<-ended
	if f.said != "" {
		return f.said
	}
	return filepath.Base(path)
}

// fake is a test whose end is noted, not carried out.
type fake struct {
	testing.TB
	said string
}

func (f *fake) Helper() {}

func (f *fake) Skip(args ...any) {
	f.said = "skipped: " + fmt.Sprint(args...)
	runtime.Goexit()
}

func (f *fake) Fatalf(format string, args ...any) {
	f.said = "failed: " + fmt.Sprintf(format, args...)
	runtime.Goexit()
}
