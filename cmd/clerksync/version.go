package main

import (
	"cmp"
	"fmt"
	"runtime/debug"
)

// version is the version of a release. The Dockerfile sets it: -ldflags "-X main.version=v1.2.3".
var version string

type versionCmd struct{}

// Run prints the version and the version of Go that built it.
func (versionCmd) Run(e env) error {
	info, ok := debug.ReadBuildInfo()
	if !ok { // built without modules
		info = &debug.BuildInfo{}
	}
	_, err := fmt.Fprintln(e.stdout, versionText(version, info))
	return err
}

// versionText returns the version in set, or else the one that the go command has noted: the tag or the commit of the
// build.
func versionText(set string, info *debug.BuildInfo) string {
	return fmt.Sprintf("clerksync %s (%s)",
		cmp.Or(set, info.Main.Version, "of an unknown version"), cmp.Or(info.GoVersion, "unknown Go"))
}
