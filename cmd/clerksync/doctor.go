package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"clerksync/config"

	"clerksync/app"
	"clerksync/clerk"
	"clerksync/inbox"
	"clerksync/inngest"
	"clerksync/reconcile"
	"clerksync/store"
	"clerksync/store/database"
)

type doctorCmd struct {
	URL string `name:"url" placeholder:"https://HOST" help:"Where Clerk reaches the service: an unsigned webhook is posted there too, which the service must refuse."`
}

// Help is what --help says beside the flags.
func (doctorCmd) Help() string {
	return "Run it with the service's settings, beside the service or without it. It prints a line for each check: ok, warn, FAIL with what to do, " +
		"or - for what could not be checked. The exit status is 1 if something failed. It changes no row and no setting; to try the event key, it " +
		"sends Inngest an event (" + inngest.ProbeEvent + ") that no function listens to."
}

// checkTimeout bounds each check, and with it what waits for something that does not answer.
const checkTimeout = 10 * time.Second

// Run makes all checks, whatever the earlier ones say.
func (c doctorCmd) Run(ctx context.Context, e env) error {
	if c.URL != "" && !config.IsHTTP(c.URL) {
		return errors.New("--url is no URL: say https://HOST")
	}
	d := &doctor{out: e.stdout}
	d.settings(e.environ)
	bounded := func(check func(context.Context)) {
		ctx, cancel := context.WithTimeout(ctx, checkTimeout)
		defer cancel()
		if ctx.Err() == nil {
			check(ctx)
		}
	}
	bounded(d.database)
	bounded(d.inngest)
	bounded(d.clerk)
	if d.db == nil {
		for _, what := range []string{"webhooks", "reconcile", "inbox", "rows"} {
			d.skip(what, "not checked: it needs the database")
		}
	} else {
		bounded(d.sync)
		bounded(d.inbox)
		bounded(d.rows)
	}
	if c.URL != "" {
		bounded(func(ctx context.Context) { d.ingress(ctx, c.URL) })
	}
	var err error
	if d.db != nil {
		err = d.db.Close(ctx)
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case d.failed == 1:
		return errors.New("1 check failed")
	case d.failed > 1:
		return fmt.Errorf("%d checks failed", d.failed)
	}
	return err
}

// doctor makes the checks and prints what they find.
type doctor struct {
	out      io.Writer
	cfg      config.Config
	mistakes config.Mistakes // in cfg
	db       *database.DB    // nil if it cannot be opened
	api      *clerk.API
	users    int // how many Clerk has, if api is not nil
	failed   int
}

func (d *doctor) ok(what, format string, args ...any)   { d.line("ok", what, format, args...) }
func (d *doctor) warn(what, format string, args ...any) { d.line("warn", what, format, args...) }
func (d *doctor) skip(what, format string, args ...any) { d.line("-", what, format, args...) }
func (d *doctor) fail(what, format string, args ...any) {
	d.failed++
	d.line("FAIL", what, format, args...)
}

func (d *doctor) line(level, what, format string, args ...any) {
	_, _ = fmt.Fprintf(d.out, "%-4s  %-9s  %s\n", level, what, oneLine(fmt.Sprintf(format, args...))) // a closed terminal ends nothing
}

// settings reads them. Those of 'clerksync dev' in this folder are taken like its database.
func (d *doctor) settings(environ []string) {
	cfg, mistakes := config.Read(environ)
	var err error
	whose := "complete"
	if takeDevFolder(&cfg) {
		whose = "those of 'clerksync dev' in this folder"
		if !cfg.Inngest.SelfHosted() {
			cfg.Inngest.Dev = "1"
		}
		file := filepath.Join(devFolder, secretFile)
		if _, e := os.Stat(file); e == nil && cfg.SigningSecrets == "" {
			secret, e := devSecret(file)
			cfg.SigningSecrets, err = secret, e
		}
	}
	d.cfg = cfg
	d.mistakes = append(mistakes, app.Check(cfg)...)
	err = errors.Join(err, d.mistakes.Err())
	if err == nil {
		d.ok("settings", "%s", whose)
		return
	}
	for l := range strings.SplitSeq(err.Error(), "\n") {
		d.fail("settings", "%s", l)
	}
}

// database opens it, and looks at what it is.
func (d *doctor) database(ctx context.Context) {
	if len(d.mistakes.Only("MONGODB_")) > 0 {
		d.skip("database", "not checked: mend its settings first")
		return
	}
	db, err := app.OpenBeside(ctx, d.cfg, slog.New(slog.DiscardHandler)) // what is wrong is in a line of ours
	if err != nil {
		d.fail("database", "%v", err)
		return
	}
	d.db = db
	server, err := db.Inspect(ctx)
	if err != nil {
		d.fail("database", "%v", err)
		return
	}
	_, embedded := d.cfg.Embedded()
	d.server(server, embedded)
	switch ready, err := app.Prepared(ctx, db); {
	case err != nil:
		d.fail("database", "%v", err)
	case !ready:
		d.fail("database", "it lacks indexes: start the service once, which makes them")
	default:
		d.ok("database", "the indexes are there")
	}
	foreign, err := store.NewUsers(db).ForeignUnique(ctx)
	if err != nil {
		d.fail("database", "%v", err)
	}
	for _, name := range foreign {
		d.warn("database", "%s: %s", name, app.ForeignIndex)
	}
}

const (
	// maxSkew is what Clerk's and Inngest's signatures allow a clock to be wrong.
	maxSkew  = 5 * time.Minute
	warnSkew = 5 * time.Second
)

// server tells what kind of database it is, and what its clock says of ours.
func (d *doctor) server(s database.Server, embedded bool) {
	name := strings.TrimSpace(s.Name + " " + s.Version)
	switch {
	case embedded:
		d.ok("database", "%s, embedded: for development only", name)
	case s.Kind == database.OneProcess:
		d.warn("database", "%s: for one process, and development only; set MONGODB_URI to a MongoDB", name)
	case s.Kind == database.StandAlone:
		d.warn("database", "%s, stand-alone: what it has acknowledged it can lose with its disk: use a replica set", name)
	default:
		d.ok("database", "%s, replicated; writes wait for a majority", name)
	}
	switch skew := s.Ahead.Abs(); {
	case skew > maxSkew:
		d.fail("clock", "this machine and the database differ by %s; from five minutes on, every webhook and every call of Inngest is refused: set the clock of whichever is wrong (NTP)", skew.Round(time.Second))
	case skew > warnSkew:
		d.warn("clock", "this machine and the database differ by %s: set the clock of whichever is wrong (NTP)", skew.Round(time.Second))
	}
}

// inngest tries what the service needs of Inngest.
func (d *doctor) inngest(ctx context.Context) {
	s := app.InngestServer(d.cfg.Inngest)
	if len(d.mistakes.Only("INNGEST_")) > 0 {
		d.skip("inngest", "not checked: mend its settings first")
		return
	}
	if err := s.Reach(ctx); err != nil {
		d.fail("inngest", "%s cannot be reached: start it, or check INNGEST_BASE_URL, INNGEST_DEV and the network: %v", s.Name(), err)
		return
	}
	d.ok("inngest", "%s answers", s.Name())
	switch err := s.SendProbe(ctx); {
	case errors.Is(err, inngest.ErrKey):
		d.fail("inngest", "INNGEST_EVENT_KEY is not accepted: set it to an event key of the same environment (Inngest's dashboard, Event keys; your own server: what it was started with)")
	case err != nil:
		d.fail("inngest", "events are not taken: %v", err)
	case s.Dev:
		d.ok("inngest", "events are taken, with any key")
	default:
		d.ok("inngest", "INNGEST_EVENT_KEY is accepted")
	}
	if !s.SelfHosted() {
		if d.signingKey(func(key string) error { return s.CheckCloudKey(ctx, key) }) {
			d.ok("inngest", "whether the app %q is synced only Inngest's dashboard tells (Apps)", s.AppID)
		}
		return
	}
	var ids []string
	if d.signingKey(func(key string) (err error) { ids, err = s.FunctionIDs(ctx, key); return err }) {
		d.registered(ids)
	}
}

// signingKey tries the signing keys, and tells whether one of them works.
func (d *doctor) signingKey(try func(key string) error) bool {
	c := d.cfg.Inngest
	err := try(c.SigningKey)
	fallback := false
	if errors.Is(err, inngest.ErrKey) && c.SigningKeyFallback != "" {
		err, fallback = try(c.SigningKeyFallback), true
	}
	switch {
	case errors.Is(err, inngest.ErrKey):
		d.fail("inngest", "INNGEST_SIGNING_KEY is not accepted: set it to the signing key of the same environment (Inngest's dashboard, Signing key; your own server: what it was started with)")
	case errors.Is(err, inngest.ErrNoLists):
		d.warn("inngest", "this server does not list its functions: see whether its dashboard has the app %q (Apps)", c.AppID)
	case err != nil:
		d.fail("inngest", "its API does not answer as it should: %v", err)
	case fallback:
		d.warn("inngest", "only INNGEST_SIGNING_KEY_FALLBACK is accepted: finish the rotation in Inngest, or swap the two")
	case !c.IsDev():
		d.ok("inngest", "INNGEST_SIGNING_KEY is accepted")
	}
	return err == nil
}

// registered compares the functions that Inngest has with those that these settings make.
func (d *doctor) registered(ids []string) {
	wanted, err := app.FunctionIDs(d.cfg, appFunctions())
	if err != nil {
		d.skip("inngest", "functions not checked: mend the settings of the mail first")
		return
	}
	appID := d.cfg.Inngest.AppID
	var missing []string
	want := map[string]bool{}
	for _, id := range wanted {
		want[appID+"-"+id] = true
		if !slices.Contains(ids, appID+"-"+id) {
			missing = append(missing, id)
		}
	}
	extra := slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return want[id] })
	switch {
	case len(ids) == 0:
		d.fail("inngest", "the app %q is not registered: start the service, which registers it, and check INNGEST_APP_ID and INNGEST_SERVE_ORIGIN", appID)
	case len(missing) > 0:
		d.fail("inngest", "the app %q lacks the function %s: restart the service with these settings", appID, strings.Join(missing, ", "))
	case len(extra) > 0:
		d.warn("inngest", "the app %q also has %s, which these settings do not make: are they the service's?", appID, strings.Join(extra, ", "))
	default:
		d.ok("inngest", "the app %q is registered, with %d functions", appID, len(ids))
	}
}

// clerk tries the secret key.
func (d *doctor) clerk(ctx context.Context) {
	switch {
	case len(d.mistakes.Only(clerkSettings()...)) > 0:
		d.skip("clerk", "not checked: mend its settings first")
		return
	case d.cfg.SecretKey == "":
		d.warn("clerk", "CLERK_SECRET_KEY is not set: backfill, reconcile and 'users ensure' are off")
		return
	}
	api, err := app.ClerkAPI(d.cfg)
	if err == nil && d.db != nil {
		err = app.CheckInstance(ctx, d.cfg, api, d.db, false)
	}
	if err == nil {
		d.users, err = api.Count(ctx)
	}
	if err != nil {
		d.fail("clerk", "%v", err)
		return
	}
	d.api = api
	kind := "a production"
	if clerk.IsDevelopment(d.cfg.SecretKey) {
		kind = "a development"
	}
	if d.cfg.InstanceID == "" {
		d.ok("clerk", "CLERK_SECRET_KEY is accepted: of %s instance; CLERK_INSTANCE_ID is not set, so events of any instance are taken", kind)
		return
	}
	d.ok("clerk", "CLERK_SECRET_KEY is accepted: of %s instance, the one that CLERK_INSTANCE_ID names", kind)
}

// sync tells what came of webhooks and of the comparisons with Clerk.
func (d *doctor) sync(ctx context.Context) {
	status, err := reconcile.ReadStatus(ctx, database.NewCheckpoints(d.db))
	if err != nil {
		d.fail("webhooks", "%v", err)
		return
	}
	d.webhooks(status, time.Now())
	d.reconcile(status, time.Now())
	d.buried(ctx, status)
}

// buried names users of whom a tombstone says that they are deleted, and Clerk that they are not.
func (d *doctor) buried(ctx context.Context, s reconcile.Status) {
	users := store.NewUsers(d.db)
	for _, id := range s.Buried() {
		switch still, err := users.IsDeleted(ctx, id); {
		case err != nil:
			d.fail("rows", "%v", err)
			return
		case still:
			d.warn("rows", "%s: Clerk has the user, and here is a tombstone: 'clerksync users restore %s' brings the user back", id, id)
		}
	}
}

func (d *doctor) webhooks(s reconcile.Status, now time.Time) {
	switch alarm := s.Silence.Alarm(now); {
	case alarm != "":
		d.fail("webhooks", "%s", alarm)
	case s.LastWebhook.IsZero():
		d.warn("webhooks", "none has come yet: send a test event from Clerk's dashboard (Webhooks, Testing)")
	default:
		d.ok("webhooks", "the last came %s ago", passed(now, s.LastWebhook))
	}
}

func (d *doctor) reconcile(s reconcile.Status, now time.Time) {
	known := 0
	for _, t := range reconcile.Tiers() {
		known += len(s.Runs[t])
	}
	if known == 0 {
		if d.cfg.SecretKey != "" {
			d.warn("reconcile", "rows have never been compared with Clerk: leave the service running, or run 'clerksync reconcile'")
		}
		return
	}
	for _, t := range reconcile.Tiers() {
		if len(s.Runs[t]) == 0 {
			d.warn("reconcile", "%s: has not run yet", t)
			continue
		}
		r := s.Runs[t][0]
		f := r.Found
		began := passed(now, r.StartedAt)
		switch {
		case r.EndedAt.IsZero() && r.Error != "":
			d.fail("reconcile", "%s: failed, began %s ago: %s", t, began, r.Error)
		case r.EndedAt.IsZero():
			d.ok("reconcile", "%s: under way, began %s ago", t, began)
		case f.Failed > 0:
			d.warn("reconcile", "%s: %s ago, %d users could not be read or written: the service's log names them", t, began, f.Failed)
		default:
			d.ok("reconcile", "%s: %s ago, %d users and %d rows compared: %d missing, %d stale, %d extra%s", t, began, f.Users, f.Rows, f.Missing, f.Stale, f.Extra, leftAlone(f))
		}
	}
}

// leftAlone says how much of what a run found it has left alone.
func leftAlone(f reconcile.Found) string {
	var what string
	if f.Buried > 0 {
		what += fmt.Sprintf(", %d buried", f.Buried)
	}
	if f.Unknown > 0 {
		what += fmt.Sprintf(", %d unknown", f.Unknown)
	}
	if what != "" {
		what += ": 'clerksync reconcile --dry-run' names them"
	}
	return what
}

// passed is how long ago something was, without more digits than matter.
func passed(now, then time.Time) string {
	d := max(now.Sub(then), 0)
	if d < time.Minute {
		return d.Truncate(time.Second).String()
	}
	return strings.TrimSuffix(d.Truncate(time.Minute).String(), "0s")
}

// maxPending is how long an event may wait before that says that functions do not run: the third sending is over then.
const maxPending = 10 * time.Minute

func (d *doctor) inbox(ctx context.Context) {
	p, err := inbox.ReadPending(ctx, d.db)
	if err != nil {
		d.fail("inbox", "%v", err)
		return
	}
	now := time.Now()
	switch {
	case p.Events == 0:
		d.ok("inbox", "no event waits")
	case now.Sub(p.Oldest) > maxPending:
		d.warn("inbox", "%d wait, the oldest for %s: the functions do not run; see them in Inngest's dashboard (Runs) and check INNGEST_SERVE_ORIGIN", p.Events, passed(now, p.Oldest))
	default:
		d.ok("inbox", "%d wait, the oldest for %s", p.Events, passed(now, p.Oldest))
	}
	dead, err := inbox.NewDeadLetters(d.db).List(ctx, false)
	switch {
	case err != nil:
		d.fail("inbox", "%v", err)
	case len(dead) > 0:
		d.warn("inbox", "%d failed for good: see 'clerksync deadletters list'", len(dead))
	default:
		d.ok("inbox", "no dead letters")
	}
}

func (d *doctor) rows(ctx context.Context) {
	n, err := store.NewUsers(d.db).Count(ctx)
	switch {
	case err != nil:
		d.fail("rows", "%v", err)
	case d.api == nil:
		d.skip("rows", "%d; how many users Clerk has is not known without its API", n)
	case n != d.users:
		d.warn("rows", "%d, but Clerk has %d users: 'clerksync reconcile --dry-run' lists them", n, d.users)
	default:
		d.ok("rows", "%d, as many as Clerk has users", n)
	}
}

// ingress posts what the service must refuse to where Clerk posts webhooks.
func (d *doctor) ingress(ctx context.Context, base string) {
	const what = "url"
	to := strings.TrimSuffix(strings.TrimRight(base, "/"), app.HookPath) + app.HookPath
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, strings.NewReader("{}"))
	if err != nil {
		d.fail(what, "it cannot be used: %v", withoutURL(err))
		return
	}
	req.Header.Set("Content-Type", "application/json")
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }} // as Clerk does
	res, err := client.Do(req)
	if err != nil {
		d.fail(what, "%s", unreachable(withoutURL(err)))
		return
	}
	defer res.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(res.Body, 1<<10)) // a part will do
	switch code := res.StatusCode; {
	case code == http.StatusBadRequest && bytes.Contains(body, []byte(webhookRefusal)) && req.URL.Scheme != "https":
		d.warn(what, "the service answers, but not over TLS: give Clerk an https URL")
	case code == http.StatusBadRequest && bytes.Contains(body, []byte(webhookRefusal)):
		d.ok(what, "the service answers, and refuses what is not signed")
	case code >= 300 && code < 400:
		d.fail(what, "a redirect (%d to %s), which Clerk takes for a failure: give Clerk the URL that it ends at", code, place(res))
	case code == http.StatusUnauthorized || code == http.StatusForbidden:
		d.fail(what, "%d: something before the service asks for a login: let POST %s through", code, app.HookPath)
	case code == http.StatusNotFound:
		d.fail(what, "404: the service is not there: check the host, and that the proxy passes %s on", app.HookPath)
	case code == http.StatusMethodNotAllowed:
		d.fail(what, "405: POST is not let through, or another service is there: check the host and the proxy")
	case code >= 500:
		d.fail(what, "%d: the proxy does not reach the service, or the service not its database", code)
	default:
		d.fail(what, "%d, which is not the service's answer to an unsigned webhook: check the host and the proxy", code)
	}
}

// webhookRefusal is in the service's answer to a webhook without a signature.
const webhookRefusal = "missing required headers"

// place is where a redirect leads, without a query.
func place(res *http.Response) string {
	to, err := res.Location()
	if err != nil {
		return "nowhere"
	}
	return (&url.URL{Scheme: to.Scheme, Host: to.Host, Path: to.Path}).String()
}

// unreachable says what to do about a URL that nothing answers at.
func unreachable(err error) string {
	var dns *net.DNSError
	var cert *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	switch {
	case errors.As(err, &dns):
		return fmt.Sprintf("the host is not known: check its name and its DNS record: %v", err)
	case errors.As(err, &cert), errors.As(err, &record), errors.Is(err, http.ErrSchemeMismatch):
		return fmt.Sprintf("TLS fails: give the host a certificate that everybody trusts, with its chain: %v", err)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Sprintf("no answer in %s: check the firewall and the proxy", checkTimeout)
	}
	return fmt.Sprintf("nothing answers: check the host, the port and the firewall: %v", err)
}
