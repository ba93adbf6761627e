package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"clerksync/app"
	"clerksync/reach"
)

type healthCmd struct {
	Timeout time.Duration `default:"4s" help:"How long the service and the database may take to answer, together."`
}

// Help returns the text of --help besides the flags.
func (healthCmd) Help() string {
	return "For the health check of a container, beside the service and with its settings. It asks the service on " +
		"this machine (/healthz) and the database, and not Inngest: while that is away, webhooks are taken. The " +
		"exit status is 1 if one of the two does not answer."
}

// Run asks the service first: if the service runs, it has the embedded database open, so the database is not started
// here.
func (c healthCmd) Run(ctx context.Context, e env) error {
	cfg, err := readConfigForCommand(ctx, e.environ, "HOST", "PORT")
	if err != nil {
		return err
	}
	if cfg.Port == "0" {
		return errors.New("PORT is 0, so the service listens on a port that only its log says: set PORT")
	}
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	if err := healthz(ctx, app.LocalURL(cfg.Host, cfg.Port)); err != nil {
		return fmt.Errorf("the service does not answer on port %s: %w", cfg.Port, err)
	}
	db, err := app.OpenBeside(ctx, cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	if err := errors.Join(db.Ping(ctx), db.Close(ctx)); err != nil {
		return fmt.Errorf("the database does not answer: %w", err)
	}
	_, err = fmt.Fprintln(e.stdout, "the service and the database answer")
	return err
}

// healthz returns nil if the service at url answers 200.
func healthz(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/healthz", nil)
	if err != nil {
		return err
	}
	res, err := (&http.Client{}).Do(req)
	if err != nil {
		return reach.Explain(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("it answers %s", res.Status)
	}
	return nil
}
