package app

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"clerksync/clerk"
	"clerksync/config"
	"clerksync/functions"
	"clerksync/history"
	"clerksync/inbox"
	"clerksync/inngest"
	"clerksync/mail"
	"clerksync/reach"
	"clerksync/reconcile"
	"clerksync/store"
	"clerksync/store/database"
	"clerksync/webhook"

	"github.com/mattn/go-isatty"
)

// Check returns all mistakes in the settings: those that config finds, and those that the packages find which use the
// settings.
func Check(c config.Config) config.Mistakes {
	all := c.Check()
	add := func(name, sep string, err error) {
		if err != nil {
			all = append(all, config.Mistake{Name: name, Text: name + sep + err.Error()})
		}
	}
	for i, s := range c.Secrets() {
		if err := webhook.CheckSecret(s); err != nil {
			err = fmt.Errorf("secret %d %w: copy it again from Clerk's dashboard, Webhooks", i+1, err)
			add("CLERK_WEBHOOK_SIGNING_SECRET", ": ", err)
		}
	}
	if c.SecretKey != "" {
		add("CLERK_SECRET_KEY", " ", clerk.CheckKey(c.SecretKey))
	}
	if c.IsURI() && len(all.Only("MONGODB_URI")) == 0 {
		add("MONGODB_URI", " ", database.CheckURI(c.MongoURI))
	}
	if c.Mail.SMTP != "" {
		_, mistakes := Mailer(c.Mail)
		all = append(all, mistakes...)
	}
	return all
}

// Reconciler returns a Reconcile with these settings.
func Reconciler(
	c config.Config, api *clerk.API, db *database.DB, users *store.Users, log *slog.Logger,
) *reconcile.Reconcile {
	return &reconcile.Reconcile{
		API: api, Users: users, State: database.NewCheckpoints(db), Log: log,
		InstanceID: c.InstanceID, MaxDelete: float64(c.Reconcile.MaxDelete),
		StepTime: functions.RunTimeout / 3, // Inngest allows 1,000 steps: 5 hours
	}
}

// ClerkAPI returns a client of Clerk's API. It sends no request. It fails if no secret key is set.
func ClerkAPI(c config.Config) (*clerk.API, error) {
	if c.SecretKey == "" {
		return nil, errors.New("CLERK_SECRET_KEY is not set: " +
			"set it to the secret key (sk_…) from Clerk's dashboard, API keys")
	}
	return clerk.NewAPI(clerk.APIOptions{
		SecretKey: c.SecretKey, KeyName: "CLERK_SECRET_KEY",
		URL: c.APIURL, URLName: "CLERK_API_URL", Share: c.RateShare, Explain: reach.Explain,
	})
}

// Mailer returns the Mailer for these settings, or the mistakes in them. It does not dial.
func Mailer(c config.Mail) (*mail.Mailer, config.Mistakes) {
	m, wrong := mail.New(mail.Options{
		URL: c.SMTP, From: c.From, ReplyTo: c.ReplyTo, Subject: c.Subject, TemplateDir: c.TemplateDir,
		AppName: c.AppName, AppURL: c.AppURL,
		Names: map[string]string{
			"URL": "SMTP_URL", "From": "MAIL_FROM", "ReplyTo": "MAIL_REPLY_TO", "Subject": "WELCOME_SUBJECT",
			"TemplateDir": "WELCOME_TEMPLATE_DIR", "AppURL": "APP_URL",
		},
	})
	var mistakes config.Mistakes
	for _, w := range wrong {
		mistakes = append(mistakes, config.Mistake(w))
	}
	if c.Since.After(time.Now()) { // config has no clock
		mistakes = append(mistakes, config.Mistake{Name: "WELCOME_SINCE", Text: "WELCOME_SINCE is in the future, so " +
			"nobody would get a welcome mail: set it to a time that is over, with Z at its end for UTC"})
	}
	return m, mistakes
}

// allFunctions returns the Inngest functions, without the fields that only a running service can set. If only their ids
// are needed, users and the parameters after it may be nil or empty.
func allFunctions(
	c config.Config, own []functions.Function, users *store.Users, past *history.History, claims *store.Welcomes,
	runs *store.Runs, dead inbox.Table, r *reconcile.Reconcile,
) (*functions.Functions, error) {
	f := &functions.Functions{
		Users: users, Runs: runs, InstanceID: c.InstanceID, ForwardPrivateMetadata: c.ForwardPrivateMetadata,
		Own: own, BatchSize: c.Batch.Size, BatchTimeout: c.Batch.Timeout,
	}
	f.Crons = append(f.Crons, functions.Upkeep(
		users.MendIndexes, users.SweepBuried,
		functions.Retention{Name: "tombstones", After: store.TombstoneRetention, Remove: users.ForgetDeleted},
		functions.Retention{Name: "welcome_mails", After: store.TombstoneRetention, Remove: claims.Forget},
		functions.Retention{Name: "runs", After: store.RunRetention, Remove: runs.Forget},
		functions.Retention{Name: "dropped_dead_letters", After: inbox.DroppedRetention, Remove: dead.ForgetDropped},
		// If it is off, what there is of it goes.
		functions.Retention{Name: "history", After: c.HistoryRetention, Remove: past.Forget},
	))
	if c.SecretKey != "" {
		crons := map[reconcile.Tier]string{}
		for tier, cron := range c.Crons() {
			crons[reconcile.Tier(tier)] = cron
		}
		f.Crons = append(f.Crons, functions.Reconcile(r, crons)...)
	}
	if c.Mail.SMTP == "" {
		return f, nil
	}
	m, mistakes := Mailer(c.Mail)
	f.Welcome = &functions.Welcome{Mailer: m, Claims: claims, Unverified: c.Mail.Unverified, Since: c.Mail.Since}
	return f, mistakes.Err()
}

// FunctionIDs returns the ids of all functions that the service has with these settings, including those in own.
func FunctionIDs(cfg config.Config, own []functions.Function) ([]string, error) {
	fns, err := allFunctions(cfg, own, nil, &history.History{}, &store.Welcomes{}, &store.Runs{}, inbox.Table{}, nil)
	return fns.IDs(), err
}

// InngestServer returns the Inngest that the settings name.
func InngestServer(c config.Inngest) inngest.Server {
	return inngest.Server{
		URL: c.URL(), Dev: c.IsDev(), AppID: c.AppID, Env: c.Env,
		EventKey: c.EventKey, SigningKey: c.SigningKey, SigningKeyFallback: c.SigningKeyFallback,
	}
}

// Logger returns the logger that the settings ask for. If they do not set the format, it writes text to a terminal and
// JSON to anything else.
func Logger(c config.Config, w io.Writer) *slog.Logger {
	opts := &slog.HandlerOptions{Level: c.LogLevel}
	if c.LogFormat == "text" || c.LogFormat == "" && IsTerminal(w) {
		return slog.New(slog.NewTextHandler(w, opts))
	}
	return slog.New(slog.NewJSONHandler(w, opts))
}

// IsTerminal tells whether what is written to w is read by a person at a terminal.
func IsTerminal(w io.Writer) bool {
	f, isFile := w.(*os.File)
	return isFile && isatty.IsTerminal(f.Fd())
}
