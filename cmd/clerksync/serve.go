package main

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"

	"clerksync/app"
	"clerksync/config"
)

type serveCmd struct{}

// gcPercent is the garbage collector's percentage, unless GOGC is set. A webhook leaves little in memory, and with Go's
// default of 100, collecting was a fifth of its cost (docs/performance.md).
const gcPercent = 200

// Help lists the settings, with their descriptions and defaults from package config.
func (serveCmd) Help() string {
	text := []byte("Settings are environment variables; docs/settings.md says more of each:\n\n")
	for _, s := range config.Settings() {
		text = fmt.Appendf(text, "  %-30s  %s\n", s.Name, s)
	}
	return string(text)
}

// Run runs the service until ctx ends.
func (serveCmd) Run(ctx context.Context, e env) error {
	cfg, mistakes := readSettings(e.environ)
	m, err := app.LoadMap(cfg)
	if err := errors.Join(append(mistakes, app.Check(cfg)...).Err(), err); err != nil {
		return err
	}
	if !isSet(e.environ, "GOGC") {
		debug.SetGCPercent(gcPercent)
	}
	a, err := app.New(ctx, app.Options{
		Config: cfg, Map: m, Functions: appFunctions(cfg), Log: app.Logger(cfg, e.stderr),
	})
	if err != nil {
		return err
	}
	return a.Run(ctx)
}

// isSet tells whether environ holds the variable.
func isSet(environ []string, name string) bool {
	return slices.ContainsFunc(environ, func(kv string) bool { return strings.HasPrefix(kv, name+"=") })
}
