package main

import (
	"bytes"
	"io"
	"regexp"
	"runtime/debug"
	"testing"
)

func TestVersionText(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		set  string
		info debug.BuildInfo
		want string
	}{
		"set by the Dockerfile": {
			set: "v1.2.3", info: debug.BuildInfo{GoVersion: "go1.26.4", Main: debug.Module{Version: "(devel)"}},
			want: "clerksync v1.2.3 (go1.26.4)",
		},
		"known to the go command": {
			info: debug.BuildInfo{
				GoVersion: "go1.26.4", Main: debug.Module{Version: "v1.2.4-0.20261124210604-e7bb1fe00000+dirty"},
			},
			want: "clerksync v1.2.4-0.20261124210604-e7bb1fe00000+dirty (go1.26.4)",
		},
		"known to nobody": {want: "clerksync of an unknown version (unknown Go)"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := versionText(tc.set, &tc.info); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

// TestVersion: the command needs no settings. That the build of the Dockerfile sets the version, .ci/run looks at.
func TestVersion(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if err := run(t.Context(), []string{"version"}, nil, &out, io.Discard); err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`^clerksync .+ \(go1\.\S+.*\)\n$`).MatchString(out.String()) {
		t.Errorf("got %q, want the name, a version and the Go that built it", out.String())
	}
}
