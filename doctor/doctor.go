// Package doctor looks at a deployment, and says what is wrong with it and what to do about that.
package doctor

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"clerksync/clerk"
	"clerksync/config"
	"clerksync/inngest"
	"clerksync/reconcile"
	"clerksync/store/database"
)

// Level is how good or bad a finding is.
type Level string

// The levels, as they are printed.
const (
	OK   Level = "ok"
	Warn Level = "warn" // it works, but should be looked at
	Fail Level = "FAIL" // it does not work
	Skip Level = "-"    // it could not be checked
)

// Finding is what a check has found. The text says what to do, if there is something to do. It holds no secret and no
// personal data, but it may quote what a server has answered.
type Finding struct {
	Level       Level
	Check, Text string
}

// Options says what to look at. A part that is nil is not checked, because its settings are wrong.
type Options struct {
	Config config.Config
	Whose  string // for the line that says that the settings are right
	Wrong  error  // what is wrong with the settings, a line for each mistake
	URL    string // where Clerk reaches the service; "" is not checked

	Open      func(context.Context) (*database.DB, error)       // opens the database; Run does not close it
	Prepared  func(context.Context, *database.DB) (bool, error) // tells whether all indexes are there
	Inngest   *inngest.Server
	Functions []string   // ids of the functions that these settings make
	Clerk     *clerk.API // nil without a secret key, too
}

// doctor makes the checks.
type doctor struct {
	Options
	found  func(Finding)
	now    time.Time
	db     *database.DB // nil if it cannot be opened or read
	status reconcile.Status
	users  int // how many Clerk has; -1 if that is not known
}

// checkTimeout bounds each check, and with it the wait for something that does not answer.
const checkTimeout = 10 * time.Second

// Run makes all checks, whatever the earlier ones say, until ctx ends. It calls found with each finding at once.
func Run(ctx context.Context, o Options, found func(Finding)) {
	d := &doctor{Options: o, found: found, now: time.Now(), users: -1}
	if o.Wrong == nil {
		d.on("settings")(is(OK, "%s", o.Whose))
	} else {
		for line := range strings.Lines(o.Wrong.Error()) {
			d.on("settings")(is(Fail, "%s", strings.TrimSuffix(line, "\n")))
		}
	}
	check := func(name string, off bool, why string, f func(context.Context, report) error) {
		ctx, cancel := context.WithTimeout(ctx, checkTimeout)
		defer cancel()
		switch say := d.on(name); {
		case ctx.Err() != nil: // somebody has ended all of it
		case off:
			say(is(Skip, "not checked: %s", why))
		default:
			say(failed(f(ctx, say)))
		}
	}
	const settings, needed = "mend its settings first", "it needs the database"
	check("database", o.Open == nil, settings, d.database)
	check("inngest", o.Inngest == nil, settings, d.inngest)
	check("clerk", o.Clerk == nil && (o.Config.SecretKey != "" || o.Config.CheckClerkAPI() != nil), settings, d.clerk)
	check("webhooks", d.db == nil, needed, d.webhooks)
	check("reconcile", d.db == nil, needed, d.reconcile)
	check("inbox", d.db == nil, needed, d.inbox)
	check("rows", d.db == nil, needed, d.rows)
	if o.URL != "" {
		check("url", false, "", d.url)
	}
}

// report reports the first of its arguments that is not nil.
type report func(...*Finding)

func (d *doctor) on(check string) report {
	return func(findings ...*Finding) {
		if f := cmp.Or(findings...); f != nil {
			f.Check = check
			d.found(*f)
		}
	}
}

// when returns a finding if it applies, and else nil.
func when(applies bool, level Level, format string, args ...any) *Finding {
	if !applies {
		return nil
	}
	return is(level, format, args...)
}

func is(level Level, format string, args ...any) *Finding {
	return &Finding{Level: level, Text: fmt.Sprintf(format, args...)}
}

// failed returns the finding that an error is, and nil without one.
func failed(err error) *Finding { return when(err != nil, Fail, "%v", err) }
