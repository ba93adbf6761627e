// Package config holds every setting: its name, its default and what it may be. It does no I/O.
package config

import (
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	envparse "github.com/caarlos0/env/v11"
	"github.com/robfig/cron/v3"
)

// Config is every setting. Nothing else reads the environment.
type Config struct {
	Port string `env:"PORT" envDefault:"3000"`
	Host string `env:"HOST"`

	SigningSecrets         string `env:"CLERK_WEBHOOK_SIGNING_SECRET"`
	InstanceID             string `env:"CLERK_INSTANCE_ID"`
	ForwardEvents          string `env:"CLERK_FORWARD_EVENTS"            envDefault:"user.*"`
	ForwardPrivateMetadata bool   `env:"CLERK_FORWARD_PRIVATE_METADATA"`

	SecretKey string  `env:"CLERK_SECRET_KEY"`
	APIURL    string  `env:"CLERK_API_URL"`
	RateShare float64 `env:"CLERK_RATE_SHARE" envDefault:"0.5"`

	AdminToken string `env:"ADMIN_TOKEN"`

	Reconcile Reconcile `envPrefix:"RECONCILE_"`

	MongoURI      string `env:"MONGODB_URI"`
	MongoDatabase string `env:"MONGODB_DATABASE"`

	Inngest Inngest `envPrefix:"INNGEST_"`

	BatchSize    int           `env:"SYNC_BATCH_SIZE"    envDefault:"1"`
	BatchTimeout time.Duration `env:"SYNC_BATCH_TIMEOUT" envDefault:"1s"`

	Mail Mail

	LogLevel  slog.Level `env:"LOG_LEVEL"  envDefault:"info"`
	LogFormat string     `env:"LOG_FORMAT"`

	InboxResendAfter time.Duration `env:"INBOX_RESEND_AFTER" envDefault:"1m"`
	ShutdownTimeout  time.Duration `env:"SHUTDOWN_TIMEOUT"   envDefault:"20s"`
}

// Reconcile is when rows are compared with Clerk, and how much may be removed.
type Reconcile struct {
	RecentCron string  `env:"RECENT_CRON" envDefault:"*/5 * * * *"`
	AbsentCron string  `env:"ABSENT_CRON" envDefault:"TZ=UTC 41 * * * *"`
	Cron       string  `env:"CRON"` // "" is spread, see Crons
	MaxDelete  percent `env:"MAX_DELETE"  envDefault:"1%"`
}

// Crons returns when which tier runs, by the name of the tier. "off" is never. The full tiers of the world are spread over an hour, for Clerk's
// API is everybody's: by a minute that all replicas of one Clerk instance have, and every registration, or of one app
// if the instance is not set.
func (c Config) Crons() map[string]string {
	full := c.Reconcile.Cron
	if full == "" {
		of := c.InstanceID
		if of == "" {
			of = c.Inngest.AppID
		}
		h := fnv.New32a()
		_, _ = io.WriteString(h, of) // never fails
		full = fmt.Sprintf("TZ=UTC %d 3 * * *", h.Sum32()%60)
	}
	crons := map[string]string{"recent": c.Reconcile.RecentCron, "absent": c.Reconcile.AbsentCron, "full": full}
	maps.DeleteFunc(crons, func(_, cron string) bool { return strings.EqualFold(cron, "off") })
	return crons
}

// Check checks the settings of the tiers.
func (c Reconcile) Check() error {
	var errs []error
	for name, v := range map[string]string{"RECONCILE_RECENT_CRON": c.RecentCron, "RECONCILE_ABSENT_CRON": c.AbsentCron, "RECONCILE_CRON": c.Cron} {
		if v != "" && !strings.EqualFold(v, "off") && !isCron(v) {
			errs = append(errs, fmt.Errorf("%s is no cron expression: set it to five fields such as \"TZ=UTC 17 3 * * *\", or to off", name))
		}
	}
	if !(c.MaxDelete >= 0 && c.MaxDelete <= 100) { // NaN is neither
		errs = append(errs, errors.New("RECONCILE_MAX_DELETE is out of range: set it to "+percentWant))
	}
	return sorted(errs)
}

// isCron tells whether Inngest takes it: five fields, and TZ=… before them. Its servers use the same parser.
func isCron(s string) (ok bool) {
	defer func() { _ = recover() }() // it panics at a time zone without a space after it, such as TZ=UTC
	_, err := cron.ParseStandard(s)
	return err == nil && !strings.Contains(s, "@")
}

// percent is a part in a hundred, written "1%" or "1".
type percent float64

const percentWant = "a percentage from 0% to 100%, such as 1%"

// UnmarshalText reads it.
func (p *percent) UnmarshalText(text []byte) error {
	v, err := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(string(text), "%")), 64)
	*p = percent(v)
	return err
}

// Mail is the welcome mail.
type Mail struct {
	SMTPURL     string `env:"SMTP_URL"`
	From        string `env:"MAIL_FROM"`
	ReplyTo     string `env:"MAIL_REPLY_TO"`
	Subject     string `env:"WELCOME_SUBJECT"`
	TemplateDir string `env:"WELCOME_TEMPLATE_DIR"`
	Unverified  bool   `env:"WELCOME_UNVERIFIED"`
	AppName     string `env:"APP_NAME"`
	AppURL      string `env:"APP_URL"`
}

// Inngest is which Inngest, and how it reaches the functions.
type Inngest struct {
	Dev                string `env:"DEV"`
	BaseURL            string `env:"BASE_URL"`
	EventKey           string `env:"EVENT_KEY"`
	SigningKey         string `env:"SIGNING_KEY"`
	SigningKeyFallback string `env:"SIGNING_KEY_FALLBACK"`
	Env                string `env:"ENV"`
	ServeOrigin        string `env:"SERVE_ORIGIN"`
	ServePath          string `env:"SERVE_PATH"           envDefault:"/api/inngest"`
	AppID              string `env:"APP_ID"               envDefault:"clerksync"`
}

// EmbeddedPrefix begins a MONGODB_URI that names the folder of the embedded database.
const EmbeddedPrefix = "embedded:"

// Read reads the settings from environ. It checks nothing that depends on the command; see Config.Check.
func Read(environ []string) (Config, error) {
	var c Config
	err := envparse.ParseWithOptions(&c, envparse.Options{Environment: envparse.ToMap(environ)})
	if err == nil {
		return c, nil
	}
	var all envparse.AggregateError
	if !errors.As(err, &all) {
		return c, fmt.Errorf("settings: %w", err)
	}
	defaults, errs := Config{LogLevel: slog.LevelInfo, RateShare: 0.5, InboxResendAfter: time.Minute, ShutdownTimeout: 20 * time.Second}, []error(nil)
	for _, e := range all.Errors {
		var p envparse.ParseError
		if !errors.As(e, &p) {
			errs = append(errs, e)
			continue
		}
		wrong := func(name, want string) {
			errs = append(errs, fmt.Errorf("%s cannot be read: set it to %s", name, want))
		} // without the value
		switch p.Name { // with the default, it is not wrong for a second reason
		case "LogLevel":
			c.LogLevel = defaults.LogLevel
			wrong("LOG_LEVEL", "debug, info, warn or error")
		case "ForwardPrivateMetadata":
			wrong("CLERK_FORWARD_PRIVATE_METADATA", "true or false")
		case "RateShare":
			c.RateShare = defaults.RateShare
			wrong("CLERK_RATE_SHARE", rateShareWant)
		case "MaxDelete":
			c.Reconcile.MaxDelete = 1
			wrong("RECONCILE_MAX_DELETE", percentWant)
		case "BatchSize":
			c.BatchSize = 1
			wrong("SYNC_BATCH_SIZE", "a number from 1 to 100")
		case "BatchTimeout":
			c.BatchTimeout = time.Second
			wrong("SYNC_BATCH_TIMEOUT", "a duration such as 1s")
		case "Unverified":
			wrong("WELCOME_UNVERIFIED", "true or false")
		case "InboxResendAfter":
			c.InboxResendAfter = defaults.InboxResendAfter
			wrong("INBOX_RESEND_AFTER", "a duration such as 1m")
		case "ShutdownTimeout":
			c.ShutdownTimeout = defaults.ShutdownTimeout
			wrong("SHUTDOWN_TIMEOUT", "a duration such as 20s")
		default:
			wrong(p.Name, "a value of another form")
		}
	}
	return c, errors.Join(errs...)
}

// Check returns all mistakes at once, a line each that says what to set, and none that quotes a secret.
func (c Config) Check() error {
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }

	if _, err := strconv.ParseUint(c.Port, 10, 16); err != nil {
		wrong("PORT is no port: set it to a number from 0 to 65535 (3000 by default)")
	}
	if !isHost(c.Host) {
		wrong("HOST is no address: set it to an IP address or a host name, without a port, or leave it unset")
	}
	if len(c.Secrets()) == 0 {
		wrong("CLERK_WEBHOOK_SIGNING_SECRET is not set: set it to the endpoint's signing secret (whsec_…) from Clerk's dashboard, Webhooks")
	}
	if len(c.Forward()) == 0 {
		wrong("CLERK_FORWARD_EVENTS names no type: set it to patterns such as user.* or leave it unset")
	}
	for _, p := range c.Forward() {
		if _, err := path.Match(p, ""); err != nil {
			wrong("CLERK_FORWARD_EVENTS holds a bad pattern, %q: set it to patterns such as user.*", p)
		}
	}
	// A webhook that is not forwarded is answered 2xx, and Clerk never sends it again.
	if missing := c.notForwarded(); len(c.Forward()) > 0 && len(missing) > 0 {
		wrong("CLERK_FORWARD_EVENTS leaves out %s: add user.*", strings.Join(missing, ", "))
	}
	if hasSpace(c.AdminToken) {
		wrong("ADMIN_TOKEN holds white space, which no client can send: set it to %d random characters or more", minToken)
	}
	if c.AdminToken != "" && len(c.AdminToken) < minToken {
		wrong("ADMIN_TOKEN is too short: set it to %d random characters or more, or leave it unset", minToken)
	}
	if c.AdminToken != "" && c.SecretKey == "" {
		wrong("ADMIN_TOKEN is set, but what it opens asks Clerk: set CLERK_SECRET_KEY too")
	}
	errs = append(errs, c.CheckClerkAPI(), c.Reconcile.Check(), c.CheckDatabase(), c.Inngest.Check())
	if c.BatchSize < 1 || c.BatchSize > 100 { // Inngest's limit
		wrong("SYNC_BATCH_SIZE is out of range: set it to a number from 1 (no batches) to 100")
	}
	if c.BatchTimeout < time.Second || c.BatchTimeout > time.Minute { // likewise
		wrong("SYNC_BATCH_TIMEOUT is out of range: set it to a duration from 1s to 1m")
	}
	if c.LogFormat != "" && c.LogFormat != "json" && c.LogFormat != "text" {
		wrong("LOG_FORMAT is neither json nor text: set it to one of them or leave it unset")
	}
	if c.InboxResendAfter <= 0 {
		wrong("INBOX_RESEND_AFTER is not positive: set it to a duration such as 1m")
	}
	if c.ShutdownTimeout <= 0 {
		wrong("SHUTDOWN_TIMEOUT is not positive: set it to a duration such as 20s")
	}
	return errors.Join(errs...)
}

// minToken keeps ADMIN_TOKEN from being guessed.
const minToken = 16

const rateShareWant = "a number from 0.001 to 1, such as 0.5"

// CheckClerkAPI checks what the commands that ask Clerk read too. It takes no key for no mistake: only some need one.
func (c Config) CheckClerkAPI() error {
	var errs []error
	if c.InstanceID != "" && !regexp.MustCompile(`^ins_\w+$`).MatchString(c.InstanceID) {
		errs = append(errs, errors.New("CLERK_INSTANCE_ID is no instance id: set it to ins_… from Clerk's dashboard, or leave it unset"))
	}
	if c.APIURL != "" && !IsHTTP(c.APIURL) {
		errs = append(errs, errors.New("CLERK_API_URL is no URL: leave it unset, or set it to http://HOST:PORT or https://HOST"))
	}
	if !(c.RateShare >= 0.001 && c.RateShare <= 1) { // NaN is neither; less would be a request in hours
		errs = append(errs, errors.New("CLERK_RATE_SHARE is out of range: set it to "+rateShareWant))
	}
	return errors.Join(errs...)
}

// CheckDatabase checks which database is named.
func (c Config) CheckDatabase() error {
	var errs []error
	dir, embedded := c.Embedded()
	switch {
	case c.MongoURI == "":
		errs = append(errs, errors.New("MONGODB_URI is not set: set it to mongodb://HOST/DATABASE, or to embedded:DIR for the embedded database (development only)"))
	case embedded && dir == "":
		errs = append(errs, errors.New("MONGODB_URI names no folder: set it to embedded:DIR, such as embedded:./data"))
	case !embedded && !strings.HasPrefix(c.MongoURI, "mongodb://") && !strings.HasPrefix(c.MongoURI, "mongodb+srv://"):
		errs = append(errs, errors.New("MONGODB_URI is of no known kind: set it to mongodb://…, mongodb+srv://… or embedded:DIR"))
	}
	if strings.ContainsAny(c.DatabaseName(), "/\\. \"$*<>:|?\x00") || len(c.DatabaseName()) > 63 {
		errs = append(errs, errors.New("MONGODB_DATABASE is no name for a database: set it to letters, digits, - and _"))
	}
	return errors.Join(errs...)
}

// Check checks the settings of Inngest.
func (c Inngest) Check() error {
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if !c.DevKnown() {
		wrong("INNGEST_DEV is neither on nor off: set it to 1 or to the URL of a dev server, or to 0 for production")
	} else if !c.IsDev() {
		if c.EventKey == "" {
			wrong("INNGEST_EVENT_KEY is not set: set it to an event key of your Inngest environment, or INNGEST_DEV=1 for the dev server")
		}
		if c.SigningKey == "" {
			wrong("INNGEST_SIGNING_KEY is not set: set it to the signing key of your Inngest environment, or INNGEST_DEV=1 for the dev server")
		}
	}
	for name, v := range map[string]string{"INNGEST_SIGNING_KEY": c.SigningKey, "INNGEST_SIGNING_KEY_FALLBACK": c.SigningKeyFallback} {
		if c.IsDev() && v != "" {
			wrong("INNGEST_DEV is on, but %s is set: unset INNGEST_DEV for production, where calls are signed, or the key for a dev server, whose calls are not", name)
		}
	}
	key := regexp.MustCompile(`^(signkey-\w+-)?([0-9a-fA-F]{2})+$`)
	for name, v := range map[string]string{"INNGEST_SIGNING_KEY": c.SigningKey, "INNGEST_SIGNING_KEY_FALLBACK": c.SigningKeyFallback} {
		if v != "" && !key.MatchString(v) {
			wrong("%s is not hexadecimal: copy it again, signkey-… from Inngest's dashboard, or what your own server was given", name)
		}
	}
	for name, v := range map[string]string{"INNGEST_BASE_URL": c.BaseURL, "INNGEST_SERVE_ORIGIN": c.ServeOrigin} {
		if v != "" && !IsHTTP(v) {
			wrong("%s is no URL: set it to http://HOST:PORT or https://HOST", name)
		}
	}
	if !strings.HasPrefix(c.ServePath, "/") {
		wrong("INNGEST_SERVE_PATH does not begin with /: set it to the path at which Inngest reaches /api/inngest")
	}
	if !regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`).MatchString(c.AppID) {
		wrong("INNGEST_APP_ID is no id: set it to letters, digits, - and _")
	}
	return sorted(errs)
}

// sorted joins errors in the order of their texts.
func sorted(errs []error) error {
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(errs...)
}

// IsHTTP tells whether s is an http or https URL with a host.
func IsHTTP(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != ""
}

// isHost tells whether one can listen on it: an IP address, the name of a host, or nothing, which is all interfaces.
func isHost(s string) bool {
	_, err := netip.ParseAddr(s)
	return s == "" || err == nil || regexp.MustCompile(`^\w([\w.-]*\w)?$`).MatchString(s)
}

// Secrets returns the signing secrets of webhooks.
func (c Config) Secrets() []string { return list(c.SigningSecrets) }

// Forward returns the patterns of the types that are forwarded.
func (c Config) Forward() []string { return list(c.ForwardEvents) }

// notForwarded returns the types that make rows and that no pattern forwards.
func (c Config) notForwarded() []string {
	return slices.DeleteFunc([]string{"user.created", "user.updated", "user.deleted"}, func(typ string) bool {
		return slices.ContainsFunc(c.Forward(), func(p string) bool {
			ok, err := path.Match(p, typ)
			return ok || err != nil // what is wrong with the pattern is said elsewhere
		})
	})
}

// hasSpace tells whether there is white space in a secret: it was read from a file, or copied with more than itself.
func hasSpace(s string) bool { return strings.ContainsFunc(s, unicode.IsSpace) }

// list splits at commas and white space.
func list(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return strings.ContainsRune(", \t\r\n", r) })
}

// Address is what the service listens on.
func (c Config) Address() string { return net.JoinHostPort(c.Host, c.Port) }

// Embedded returns the folder of the embedded database, if that is what MONGODB_URI names.
func (c Config) Embedded() (dir string, ok bool) {
	return strings.CutPrefix(c.MongoURI, EmbeddedPrefix)
}

// DatabaseName returns the name of the database.
func (c Config) DatabaseName() string {
	if c.MongoDatabase != "" {
		return c.MongoDatabase
	}
	if _, ok := c.Embedded(); !ok {
		if name := nameInURI(c.MongoURI); name != "" {
			return name
		}
	}
	return "clerksync"
}

// IsDev tells whether INNGEST_DEV asks for the dev server. The SDK takes any value for yes, "0" and "false" too.
func (c Inngest) IsDev() bool {
	return c.Dev == "1" || strings.EqualFold(c.Dev, "true") || IsHTTP(c.Dev)
}

// DevKnown tells whether INNGEST_DEV is a value that is either on or off: who writes "off" must not get an open door.
func (c Inngest) DevKnown() bool {
	return c.IsDev() || c.Dev == "" || c.Dev == "0" || strings.EqualFold(c.Dev, "false")
}

// SelfHosted tells whether it is not Inngest Cloud.
func (c Inngest) SelfHosted() bool { return c.URL() != "" }

// URL is where a dev server or an Inngest of one's own is, without a slash at the end; "" is Inngest Cloud.
func (c Inngest) URL() string {
	switch {
	case c.BaseURL != "":
		return strings.TrimRight(c.BaseURL, "/")
	case c.IsDev() && IsHTTP(c.Dev):
		return strings.TrimRight(c.Dev, "/")
	case c.IsDev():
		return "http://127.0.0.1:8288"
	}
	return ""
}

// nameInURI returns the database that the path of a connection string names, or "".
func nameInURI(uri string) string {
	_, rest, _ := strings.Cut(uri, "://")
	_, path, _ := strings.Cut(rest, "/")
	name, _, _ := strings.Cut(path, "?")
	return name
}
