package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"clerksync/app"
	"clerksync/config"
	"clerksync/doctor"
	"clerksync/inngest"
	"clerksync/store/database"
)

type doctorCmd struct {
	URL string `name:"url" placeholder:"https://HOST" help:"Where Clerk reaches the service. An unsigned webhook is posted there too, which it must refuse."`
}

// Help is what --help says beside the flags.
func (doctorCmd) Help() string {
	return "Run it with the service's settings, beside the service or without it. It prints a line for each check: ok, " +
		"warn, FAIL with what to do, or - for what could not be checked. The exit status is 1 if something failed. It " +
		"changes no row and no setting; to try the event key, it sends Inngest an event (" + inngest.ProbeEvent + ") " +
		"that no function listens to."
}

// Run prints a line for each finding.
func (c doctorCmd) Run(ctx context.Context, e env) error {
	if c.URL != "" && !config.IsHTTP(c.URL) {
		return errors.New("--url is no URL: say https://HOST")
	}
	var db *database.DB
	o := doctorOptions(e.environ)
	o.URL = c.URL
	o.Open = func(ctx context.Context) (_ *database.DB, err error) {
		db, err = app.OpenBeside(ctx, o.Config, slog.New(slog.DiscardHandler)) // a finding says what is wrong
		return db, err
	}
	failed := 0
	doctor.Run(ctx, o, func(f doctor.Finding) {
		if f.Level == doctor.Fail {
			failed++
		}
		// A closed terminal ends nothing.
		_, _ = fmt.Fprintf(e.stdout, "%-4s  %-9s  %s\n", f.Level, f.Check, oneLine(f.Text))
	})
	var err error
	if db != nil {
		err = db.Close(ctx)
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case failed == 1:
		return errors.New("1 check failed")
	case failed > 1:
		return fmt.Errorf("%d checks failed", failed)
	}
	return err
}

// doctorOptions reads the settings, those of 'clerksync dev' in this folder too, and makes what they describe.
func doctorOptions(environ []string) doctor.Options {
	cfg, mistakes := config.Read(environ)
	o := doctor.Options{Whose: "complete", Prepared: app.Prepared}
	if takeDevFolder(&cfg) {
		o.Whose = "those of 'clerksync dev' in this folder"
		if !cfg.Inngest.SelfHosted() {
			cfg.Inngest.Dev = "1"
		}
		file := filepath.Join(devFolder, secretFile)
		if _, err := os.Stat(file); err == nil && cfg.SigningSecrets == "" { // else it would be made
			if cfg.SigningSecrets, err = devSecret(file); err != nil {
				mistakes = append(mistakes, config.Mistake{Name: "CLERK_WEBHOOK_SIGNING_SECRET", Text: err.Error()})
			}
		}
	}
	o.Config, o.Mistakes, o.Inngest = cfg, append(mistakes, app.Check(cfg)...), app.InngestServer(cfg.Inngest)
	if len(o.Mistakes.Only(clerkSettings()...)) == 0 && cfg.SecretKey != "" {
		o.Clerk, _ = app.ClerkAPI(cfg) // it has just been checked
	}
	if ids, err := app.FunctionIDs(cfg, appFunctions()); err == nil {
		o.Functions = ids
	}
	return o
}
