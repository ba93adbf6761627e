package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"clerksync/clerk"
	"clerksync/inbox"
	"clerksync/inngest"
	"clerksync/reconcile"
	"clerksync/replicas"
	"clerksync/store"
	"clerksync/store/database"
)

// ForeignIndex says what harm a unique index does that the app has made on the users.
const ForeignIndex = "a unique index of the app's on users refuses each user who has the same value as another, " +
	"who then becomes a dead letter: drop it, or make it not unique"

// database opens the database, and checks its kind, its clock and its indexes.
func (d *doctor) database(ctx context.Context, say report) *Finding {
	db, err := d.Open(ctx)
	if err != nil {
		return failed(err)
	}
	if d.status, err = reconcile.ReadStatus(ctx, database.NewCheckpoints(db)); err != nil {
		return failed(err)
	}
	d.db, d.table = db, store.NewUsers(db, d.Map)
	server, err := db.Inspect(ctx)
	if err != nil {
		return failed(err)
	}
	d.server(server)
	ready, err := d.Prepared(ctx, db, d.table)
	say(failed(err),
		when(!ready, Fail, "it lacks indexes: start the service once, which makes them"),
		is(OK, "the indexes are there"))
	return d.indexes(ctx, say)
}

// indexes reports the unique indexes of the app that refuse rows.
func (d *doctor) indexes(ctx context.Context, say report) *Finding {
	clashes, others, err := d.table.Clashes(ctx)
	for _, c := range clashes {
		say(when(c.Refused, Fail, "%s", c.Text), is(Warn, "%s", c.Text))
	}
	for _, name := range others {
		say(is(Warn, "%s: %s", name, ForeignIndex))
	}
	return failed(err)
}

const (
	// maxSkew is how far a clock may be wrong before the signatures of Clerk and Inngest are refused. From warnSkew on,
	// there is a warning.
	maxSkew  = 5 * time.Minute
	warnSkew = 5 * time.Second
)

// server reports the kind of database, and how far its clock differs from ours.
func (d *doctor) server(s database.Server) {
	name, skew := strings.TrimSpace(s.Name+" "+s.Version), s.Ahead.Abs().Round(time.Second)
	_, embedded := d.Config.Embedded()
	d.on("database")(
		when(embedded, OK, "%s, embedded: for development only", name),
		when(s.Kind == database.OneProcess, Warn,
			"%s: for one process, and development only; set MONGODB_URI to a MongoDB", name),
		when(s.Kind == database.StandAlone, Warn,
			"%s, stand-alone: what it has acknowledged it can lose with its disk: use a replica set", name),
		is(OK, "%s, replicated; writes wait for a majority", name))
	const differ, set = "this machine and the database differ by %s", ": set the clock of whichever is wrong (NTP)"
	d.on("clock")(
		when(s.Ahead.Abs() > maxSkew, Fail,
			differ+"; from five minutes on, every webhook and every call of Inngest is refused"+set, skew),
		when(s.Ahead.Abs() > warnSkew, Warn, differ+set, skew))
}

// inngest tries everything that the service needs from Inngest.
func (d *doctor) inngest(ctx context.Context, say report) *Finding {
	server := d.Inngest
	if err := server.Reach(ctx); err != nil {
		named := ""
		if server.SelfHosted() {
			named = "; INNGEST_BASE_URL or INNGEST_DEV says where it is"
		}
		return is(Fail, "%s cannot be reached: %v%s", server.Name(), err, named)
	}
	say(is(OK, "%s answers", server.Name()))
	err := server.SendProbe(ctx)
	say(refused(err, "EVENT_KEY", "an event key", "Event keys"),
		when(err != nil, Fail, "events are not taken: %v", err),
		when(server.Dev, OK, "events are taken, with any key"),
		is(OK, "INNGEST_EVENT_KEY is accepted"))
	if server.SelfHosted() {
		var ids []string
		if d.signingKey(func(key string) (err error) { ids, err = server.FunctionIDs(ctx, key); return err }) {
			d.registered(ids)
		}
	} else if d.signingKey(func(key string) error { return server.CheckCloudKey(ctx, key) }) {
		return is(OK, "whether the app %q is synced only Inngest's dashboard tells (Apps)", server.AppID)
	}
	return nil
}

// refused returns a finding if err says that Inngest does not accept a key. setting is the end of the setting's name,
// key is what to set it to, and where says where Inngest's dashboard shows it.
func refused(err error, setting, key, where string) *Finding {
	return when(errors.Is(err, inngest.ErrKey), Fail, "INNGEST_%s is not accepted: set it to %s of the same "+
		"environment (Inngest's dashboard, %s; your own server: what it was started with)", setting, key, where)
}

// signingKey tries the signing key and then the fallback, and tells whether Inngest accepts one of them.
func (d *doctor) signingKey(try func(key string) error) bool {
	err := try(d.Inngest.SigningKey)
	fallback := errors.Is(err, inngest.ErrKey) && d.Inngest.SigningKeyFallback != ""
	if fallback {
		err = try(d.Inngest.SigningKeyFallback)
	}
	app := d.Inngest.AppID
	d.on("inngest")(refused(err, "SIGNING_KEY", "the signing key", "Signing key"),
		when(errors.Is(err, inngest.ErrNoLists), Warn,
			"this server does not list its functions: see whether its dashboard has the app %q (Apps)", app),
		when(err != nil, Fail, "its API does not answer as it should: %v", err),
		when(fallback, Warn,
			"only INNGEST_SIGNING_KEY_FALLBACK is accepted: finish the rotation in Inngest, or swap the two"),
		when(!d.Inngest.Dev, OK, "INNGEST_SIGNING_KEY is accepted"))
	return err == nil
}

// replicas reports processes that do not register their functions, because newer ones with others are alive.
func (d *doctor) replicas(ctx context.Context, _ report) *Finding {
	all, outdated, err := replicas.Alive(ctx, database.NewCheckpoints(d.db), d.Inngest.App(), d.now)
	return cmp.Or(failed(err),
		when(outdated > 0, Warn, "%d of %d processes do not register their functions, because newer ones have others: "+
			"finish the upgrade, or give all of them the same version and settings", outdated, all),
		when(all > 1, OK, "%d are alive, with the same functions", all))
}

// registered compares the functions that are registered with Inngest with those that the service has with these
// settings.
func (d *doctor) registered(ids []string) {
	app, n, missing := d.Inngest.AppID, len(ids), []string(nil)
	for _, id := range d.Functions {
		if i := slices.Index(ids, app+"-"+id); i >= 0 {
			ids = slices.Delete(ids, i, i+1)
		} else {
			missing = append(missing, id)
		}
	}
	d.on("inngest")(
		when(d.Functions == nil, Skip, "functions not checked: mend the settings first"),
		when(n == 0, Fail, "the app %q is not registered: start the service, which registers it, "+
			"and check INNGEST_APP_ID and INNGEST_SERVE_ORIGIN", app),
		when(missing != nil, Fail, "the app %q lacks the function %s: restart the service with these settings",
			app, strings.Join(missing, ", ")),
		when(len(ids) > 0, Warn, "the app %q also has %s, which these settings do not make: are they the service's?",
			app, strings.Join(ids, ", ")),
		is(OK, "the app %q is registered, with %d functions", app, n))
}

// clerk tries the secret key, and asks Clerk how many users it has.
func (d *doctor) clerk(ctx context.Context, _ report) *Finding {
	c := d.Config
	if d.Clerk == nil {
		return is(Warn, "CLERK_SECRET_KEY is not set: backfill, reconcile and 'users ensure' are off")
	}
	if d.db != nil {
		err := reconcile.CheckInstance(ctx, d.Clerk, database.NewCheckpoints(d.db), c.InstanceID, false)
		if err != nil {
			return failed(err)
		}
	}
	n, err := d.Clerk.Count(ctx)
	if err != nil {
		return failed(err)
	}
	d.users = n
	const accepted = "CLERK_SECRET_KEY is accepted: of a %s instance"
	kind := map[bool]string{true: "development", false: "production"}[clerk.IsDevelopment(c.SecretKey)]
	if c.InstanceID == "" {
		return is(OK, accepted+"; CLERK_INSTANCE_ID is not set, so events of any instance are taken", kind)
	}
	return is(OK, accepted+", the one that CLERK_INSTANCE_ID names", kind)
}

// webhooks reports when the last webhook came, and whether webhooks are missing.
func (d *doctor) webhooks(context.Context, report) *Finding {
	alarm, last := d.status.Silence.Alarm(d.now), d.status.LastWebhook
	return cmp.Or(when(alarm != "", Fail, "%s", alarm),
		when(last.IsZero(), Warn, "none has come yet: send a test event from Clerk's dashboard (Webhooks, Testing)"),
		is(OK, "the last came %s ago", d.since(last)))
}

// reconcile reports the last run of each tier.
func (d *doctor) reconcile(_ context.Context, say report) *Finding {
	tiers, runs, crons := reconcile.Tiers(), d.status.Runs, d.Config.Crons()
	never := !slices.ContainsFunc(tiers, func(t reconcile.Tier) bool { return len(runs[t]) > 0 })
	key := d.Config.SecretKey != "" // without it no tier runs
	say(when(never && key && len(crons) == 0, Warn,
		"rows have never been compared with Clerk, and every tier is off: run 'clerksync reconcile'"),
		when(never && key, Warn,
			"rows have never been compared with Clerk: leave the service running, or run 'clerksync reconcile'"))
	for _, t := range tiers {
		tier := string(t)
		_, on := crons[tier]
		if len(runs[t]) == 0 || !on && runs[t][0].EndedAt.IsZero() {
			say(when(key && !on, OK, "%s: off, by its setting", tier),
				when(key && !never, Warn, "%s: has not run yet", tier))
			continue
		}
		if !on {
			tier += " (off, by its setting)"
		}
		r, f := runs[t][0], runs[t][0].Found
		began, unfinished := d.since(r.StartedAt), r.EndedAt.IsZero()
		say(when(unfinished && r.Error != "", Fail, "%s: failed, began %s ago: %s", tier, began, r.Error),
			when(unfinished, OK, "%s: under way, began %s ago", tier, began),
			when(f.Failed > 0, Warn, "%s: %s ago, %d users could not be read or written: the service's log names them",
				tier, began, f.Failed),
			is(OK, "%s: %s ago, %d users and %d rows compared: %d missing, %d stale, %d extra%s",
				tier, began, f.Users, f.Rows, f.Missing, f.Stale, f.Extra, leftAlone(f)))
	}
	return nil
}

// leftAlone says how much drift a run did not repair.
func leftAlone(f reconcile.Found) (text string) {
	if f.Buried > 0 {
		text += fmt.Sprintf(", %d buried", f.Buried)
	}
	if f.Unknown > 0 {
		text += fmt.Sprintf(", %d unknown", f.Unknown)
	}
	if text != "" {
		text += ": 'clerksync reconcile --dry-run' names them"
	}
	return text
}

// since formats how long ago t was: in seconds during the first minute, and then in minutes.
func (d *doctor) since(t time.Time) string {
	passed := max(d.now.Sub(t), 0)
	if passed < time.Minute {
		return passed.Truncate(time.Second).String()
	}
	return strings.TrimSuffix(passed.Truncate(time.Minute).String(), "0s")
}

// maxTaken is how many dead letters that a unique index of the app's has caused are named.
const maxTaken = 10

// inbox counts the pending events and the dead letters, and names the users whom a unique index of the app's refuses.
func (d *doctor) inbox(ctx context.Context, say report) *Finding {
	p, err := inbox.NewTable(d.db).Pending(ctx)
	if err != nil {
		return failed(err)
	}
	wait := fmt.Sprintf("%d wait, the oldest for %s", p.Events, d.since(p.Oldest))
	say(when(p.Events == 0, OK, "no event waits"),
		when(d.now.Sub(p.Oldest) > inbox.StuckAfter, Warn, "%s: the functions do not run; "+
			"see them in Inngest's dashboard (Runs) and check INNGEST_SERVE_ORIGIN", wait),
		is(OK, "%s", wait))
	dead, err := inbox.NewTable(d.db).DeadLetters(ctx, false)
	taken := slices.DeleteFunc(slices.Clone(dead), func(l inbox.DeadLetter) bool {
		return !strings.Contains(l.Error, store.TakenText)
	})
	for _, l := range taken[:min(len(taken), maxTaken)] {
		say(is(Warn, "%s; then 'clerksync deadletters replay %s'", l.Error, l.ID))
	}
	return cmp.Or(failed(err),
		when(len(dead) > 0, Warn, "%d failed for good: see 'clerksync deadletters list'", len(dead)),
		is(OK, "no dead letters"))
}

// rows reports the users whom Clerk has although they have a tombstone, and compares the number of rows with the number
// of Clerk's users.
func (d *doctor) rows(ctx context.Context, say report) *Finding {
	for _, id := range d.status.Buried() {
		deleted, err := d.table.IsDeleted(ctx, id)
		if err != nil {
			return failed(err)
		}
		say(when(deleted, Warn, "%[1]s: Clerk has the user, and here is a tombstone: "+
			"'clerksync users restore %[1]s' brings the user back", id))
	}
	behind, err := d.table.Behind(ctx)
	say(failed(err), when(behind > 0, Warn,
		"%d are behind the map: run 'clerksync reconcile', or wait for the full run of the night", behind))
	n, err := d.table.Count(ctx)
	return cmp.Or(failed(err),
		when(d.users < 0, Skip, "%d; how many users Clerk has is not known without its API", n),
		when(n != d.users, Warn, "%d, but Clerk has %d users: 'clerksync reconcile --dry-run' lists them", n, d.users),
		is(OK, "%d, as many as Clerk has users", n))
}
