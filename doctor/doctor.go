// Package doctor checks a deployment, and says what is wrong with it and what to do about it.
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
	"clerksync/store"
	"clerksync/store/database"
	"clerksync/store/mapping"
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

// Options says what to check.
type Options struct {
	Config   config.Config
	Mistakes config.Mistakes // the mistakes in the settings
	Whose    string          // the text of the finding if there are none
	URL      string          // where Clerk reaches the service; "" means that this is not checked

	Map *mapping.Map // nil if it has mistakes
	// Open opens the database, which Run does not close. Prepared tells whether it has all indexes.
	Open      func(context.Context) (*database.DB, error)
	Prepared  func(context.Context, *database.DB, *store.Users) (bool, error)
	Inngest   inngest.Server
	Functions []string   // ids of the functions that these settings make; nil if the settings they depend on are wrong
	Clerk     *clerk.API // nil without a secret key, or if the settings of Clerk's API are wrong
}

// doctor does the checks.
type doctor struct {
	Options
	found  func(Finding)
	now    time.Time
	db     *database.DB // nil if it cannot be opened or read
	table  *store.Users // of db
	status reconcile.Status
	users  int // how many users Clerk has; -1 if that is not known
}

// checkTimeout bounds each check, and with it the wait for something that does not answer.
const checkTimeout = 10 * time.Second

// Run does all checks, even if earlier ones fail, until ctx ends. It calls found with each finding as soon as it has
// it.
func Run(ctx context.Context, o Options, found func(Finding)) {
	d := &doctor{Options: o, found: found, now: time.Now(), users: -1}
	if err := o.Mistakes.Err(); err == nil {
		d.on("settings")(is(OK, "%s", o.Whose))
	} else {
		for line := range strings.SplitSeq(err.Error(), "\n") {
			d.on("settings")(is(Fail, "%s", line))
		}
	}
	if m := d.Map; m != nil && m.File != "" {
		d.on("map")(is(OK, "%s: the collection %s, by %s", m.File, m.Collection, m.Key))
		for _, w := range m.Warnings() {
			d.on("map")(is(Warn, "%s", w))
		}
	}
	// f reports its findings, except the last one, which it returns, or nil if there is none.
	check := func(name string, off bool, why string, f func(context.Context, report) *Finding) {
		ctx, cancel := context.WithTimeout(ctx, checkTimeout)
		defer cancel()
		switch say := d.on(name); {
		case ctx.Err() != nil: // the operator has ended the command
		case off:
			say(is(Skip, "not checked: %s", why))
		default:
			say(f(ctx, say))
		}
	}
	const settings, needed = "mend its settings first", "it needs the database"
	check("database", len(o.Mistakes.Only("MONGODB_", "CLERKSYNC_")) > 0, settings, d.database)
	check("inngest", len(o.Mistakes.Only("INNGEST_")) > 0, settings, d.inngest)
	if d.db != nil && o.Inngest.SelfHosted() {
		check("replicas", false, "", d.replicas)
	}
	key := o.Config.SecretKey != "" || len(o.Mistakes.Only("CLERK_SECRET_KEY")) > 0
	check("clerk", o.Clerk == nil && key, settings, d.clerk)
	check("webhooks", d.db == nil, needed, d.webhooks)
	check("reconcile", d.db == nil, needed, d.reconcile)
	check("inbox", d.db == nil, needed, d.inbox)
	check("freshness", d.db == nil || o.Config.SecretKey == "", needed+" and CLERK_SECRET_KEY", d.freshness)
	check("rows", d.db == nil, needed, d.rows)
	if o.URL != "" {
		check("url", false, "", d.url)
	}
}

// report reports the first of the findings that is not nil.
type report func(...*Finding)

func (d *doctor) on(check string) report {
	return func(findings ...*Finding) {
		if f := cmp.Or(findings...); f != nil {
			f.Check = check
			d.found(*f)
		}
	}
}

// when returns a finding if it applies, and nil if not.
func when(applies bool, level Level, format string, args ...any) *Finding {
	if !applies {
		return nil
	}
	return is(level, format, args...)
}

func is(level Level, format string, args ...any) *Finding {
	return &Finding{Level: level, Text: fmt.Sprintf(format, args...)}
}

// failed returns a finding with the text of err, or nil if err is nil.
func failed(err error) *Finding { return when(err != nil, Fail, "%v", err) }
