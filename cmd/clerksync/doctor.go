package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"clerksync/app"
	"clerksync/config"
	"clerksync/doctor"
	"clerksync/history"
	"clerksync/inngest"
	"clerksync/store"
	"clerksync/store/database"
	"clerksync/webhook"
)

type doctorCmd struct {
	URL string `name:"url" placeholder:"https://HOST" help:"Where Clerk reaches the service: posts webhooks there."`
	asJSON
}

// Help returns the text of --help besides the flags.
func (doctorCmd) Help() string {
	return "Run it with the service's settings, beside the service or without it. It prints a line for each check: " +
		"ok, warn, FAIL with what to do, or - for what could not be checked. The exit status is 1 if something " +
		"failed. It changes no row and no setting; to try the event key, it sends Inngest an event (" +
		inngest.ProbeEvent + ") that no function listens to, and with --url the service a webhook without a " +
		"signature, which it must refuse, and signed ones (" + webhook.ProbeType + "), which it must answer and " +
		"does not keep."
}

// Run prints a line for each finding.
func (c doctorCmd) Run(ctx context.Context, e env) error {
	if c.URL != "" && !config.IsHTTP(c.URL) {
		return errors.New("--url is no URL: say https://HOST")
	}
	o := doctorOptions(ctx, e.environ, c.URL)
	var db *database.DB
	o.Open = func(ctx context.Context) (_ *database.DB, err error) {
		db, err = app.OpenBeside(ctx, o.Config, slog.New(slog.DiscardHandler)) // the finding has the error
		return db, err
	}
	failed, findings := 0, []findingJSON{}
	doctor.Run(ctx, o, func(f doctor.Finding) {
		if f.Level == doctor.Fail {
			failed++
		}
		if c.JSON {
			findings = append(findings, newFindingJSON(f))
			return
		}
		e.say("%-4s  %-9s  %s", f.Level, f.Check, oneLine(f.Text))
	})
	var err error
	if db != nil {
		err = db.Close(ctx)
	}
	if c.JSON && ctx.Err() == nil {
		err = errors.Join(err, e.json(doctorJSON{failed, findings}))
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

// doctorOptions reads the settings, or those of 'clerksync dev' in this folder, and returns what the doctor checks.
func doctorOptions(ctx context.Context, environ []string, url string) doctor.Options {
	cfg, mistakes := readSettings(environ)
	whose, unread := "complete", mistakes
	took, notRunning := takeDevFolder(ctx, &cfg, mistakes)
	if took {
		whose = "those of 'clerksync dev' in this folder"
	}
	for _, m := range app.Check(cfg) {
		if m.Name == "MONGODB_URI" && notRunning != nil {
			m.Text = notRunning.Error()
		}
		mistakes = append(mistakes, m)
	}
	m, err := app.LoadMap(cfg)
	if err != nil {
		for line := range strings.SplitSeq(err.Error(), "\n") {
			mistakes = append(mistakes, config.Mistake{Name: "CLERKSYNC_MAP", Text: line})
		}
	}
	o := doctor.Options{
		Config: cfg, Map: m, Mistakes: mistakes, Whose: whose, URL: url,
		Prepared: prepared(cfg), Inngest: app.InngestServer(cfg.Inngest),
	}
	if len(mistakes.Only(clerkSettings()...)) == 0 && cfg.SecretKey != "" {
		o.Clerk, _ = app.ClerkAPI(cfg) // the settings have just been checked
	}
	// Which functions there are depends on whether these two are set.
	if ids, err := app.FunctionIDs(cfg, appFunctions(cfg)); err == nil &&
		len(unread.Only("CLERK_SECRET_KEY", "SMTP_URL")) == 0 {
		o.Functions = ids
	}
	return o
}

// prepared returns what tells whether all indexes are there that the service makes with these settings.
func prepared(cfg config.Config) func(context.Context, *database.DB, *store.Users) (bool, error) {
	return func(ctx context.Context, db *database.DB, users *store.Users) (bool, error) {
		return app.Prepared(ctx, db, users, history.New(db, cfg.HistoryRetention, slog.New(slog.DiscardHandler)))
	}
}
