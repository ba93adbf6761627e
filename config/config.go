// Package config has all settings: their names, defaults, descriptions and allowed values. It does no I/O.
package config

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Config has all settings. Nothing else reads the environment. The tags of a field describe its setting: env is the
// name, envDefault the default, desc what the setting is, and want what it may be set to. A secret has the tag sec: it
// can come from a file too (see Read).
type Config struct {
	Port string `env:"PORT" envDefault:"3000" desc:"port to listen on; 0 is any free one" want:"a number up to 65535"`
	Host string `env:"HOST" desc:"address to listen on" want:"an IP address or a host name, without a port"`

	MetricsAddr string `env:"METRICS_ADDR" desc:"address for the metrics alone" want:"HOST:PORT, or :PORT for all"`

	AdminToken string `env:"ADMIN_TOKEN" sec:"" desc:"token for /status and ensure" want:"16 random characters or more"`

	LogLevel  slog.Level `env:"LOG_LEVEL" envDefault:"info" desc:"what is logged" want:"debug, info, warn or error"`
	LogFormat string     `env:"LOG_FORMAT" desc:"how it is logged" want:"json or text"`

	ShutdownTimeout  time.Duration `env:"SHUTDOWN_TIMEOUT" envDefault:"20s" desc:"how long the end may take"`
	InboxResendAfter time.Duration `env:"INBOX_RESEND_AFTER" envDefault:"1m" desc:"when an event is sent again"`

	SigningSecrets string `env:"CLERK_WEBHOOK_SIGNING_SECRET" sec:"" desc:"signing secrets of the endpoint, whsec_…"`
	InstanceID     string `env:"CLERK_INSTANCE_ID" desc:"the Clerk instance whose events are taken, ins_…"`
	ForwardEvents  string `env:"CLERK_FORWARD_EVENTS" envDefault:"user.*" desc:"event types that go to Inngest"`

	ForwardPrivateMetadata bool `env:"CLERK_FORWARD_PRIVATE_METADATA" desc:"keep private_metadata in the events"`

	SecretKey string `env:"CLERK_SECRET_KEY" sec:"" desc:"secret key of Clerk's API, sk_…"`
	APIURL    string `env:"CLERK_API_URL" desc:"where Clerk's API is" want:"http://HOST:PORT or https://HOST"`

	RateShare float64 `env:"CLERK_RATE_SHARE" envDefault:"0.5" desc:"part of Clerk's limit" want:"a number, 0.001 to 1"`

	Reconcile Reconcile `envPrefix:"RECONCILE_"`

	FreshnessTarget *time.Duration `env:"FRESHNESS_TARGET" desc:"how old a change may be" want:"a duration such as 10m"`

	MongoURI string `env:"MONGODB_URI" sec:"" desc:"the database: mongodb://…, mongodb+srv://… or embedded:DIR"`

	MongoDatabase string `env:"MONGODB_DATABASE" desc:"name of the database" want:"letters, digits, - and _"`

	EmbeddedPort string `env:"EMBEDDED_PORT" desc:"port of the database that is started" want:"a number up to 65535"`

	HistoryRetention time.Duration `env:"HISTORY_RETENTION" envDefault:"720h" desc:"how long a user's history is kept"`

	Map string `env:"CLERKSYNC_MAP" desc:"file that says which fields of which collection are written"`

	Inngest Inngest `envPrefix:"INNGEST_"`

	Batch Batch `envPrefix:"SYNC_BATCH_"`

	Mail Mail

	Traces Traces `envPrefix:"OTEL_"`

	otherName string   // see OtherName
	unread    []string // names of the settings whose files cannot be read, see fromFiles
}

// Reconcile says when rows are compared with Clerk, and how many rows a run may remove.
type Reconcile struct {
	RecentCron string `env:"RECENT_CRON" envDefault:"*/5 * * * *" desc:"when the recent tier runs"`
	AbsentCron string `env:"ABSENT_CRON" envDefault:"TZ=UTC 41 * * * *" desc:"when the absent tier runs"`
	Cron       string `env:"CRON" desc:"when the full tier runs"` // for "" see Crons

	MaxDelete percent `env:"MAX_DELETE" envDefault:"1%" desc:"the brake" want:"a percentage from 0% to 100%"`
}

// Batch says how many events a function gets in one call.
type Batch struct {
	Size    int           `env:"SIZE" envDefault:"1" desc:"how many events a call has" want:"a number from 1 to 100"`
	Timeout time.Duration `env:"TIMEOUT" envDefault:"1s" desc:"how long a batch may fill" want:"a duration, 1s to 1m"`
}

// Inngest says which Inngest to use, and how it reaches the functions.
type Inngest struct {
	Dev     string `env:"DEV" desc:"1 for a dev server, or its URL"`
	BaseURL string `env:"BASE_URL" desc:"URL of a self-hosted Inngest" want:"http://HOST:PORT or https://HOST"`

	EventKey           string `env:"EVENT_KEY" sec:"" desc:"key that events are sent with"`
	SigningKey         string `env:"SIGNING_KEY" sec:"" desc:"key that Inngest's calls are signed with"`
	SigningKeyFallback string `env:"SIGNING_KEY_FALLBACK" sec:"" desc:"a second signing key, while you rotate"`

	Env         string `env:"ENV" desc:"branch environment of Inngest Cloud"`
	ServeOrigin string `env:"SERVE_ORIGIN" desc:"URL at which Inngest reaches this" want:"http://… or https://…"`
	ServePath   string `env:"SERVE_PATH" envDefault:"/api/inngest" desc:"path at which Inngest reaches /api/inngest"`
	AppID       string `env:"APP_ID" envDefault:"clerksync" desc:"id of the app" want:"letters, digits, - and _"`
}

// Mail has the settings of the welcome mail.
type Mail struct {
	SMTP string `env:"SMTP_URL" sec:"" desc:"mail server: smtp://USER:PASSWORD@HOST:587 or smtps://USER:PASSWORD@HOST"`

	From        string `env:"MAIL_FROM" desc:"sender, such as App <hello@app.example>"`
	ReplyTo     string `env:"MAIL_REPLY_TO" desc:"where answers go"`
	AppName     string `env:"APP_NAME" desc:"name of the app"`
	AppURL      string `env:"APP_URL" desc:"where the mail's button leads"`
	Subject     string `env:"WELCOME_SUBJECT" desc:"subject, a Go template"`
	TemplateDir string `env:"WELCOME_TEMPLATE_DIR" desc:"folder with welcome.html and welcome.txt"`
	Unverified  bool   `env:"WELCOME_UNVERIFIED" desc:"also to addresses that are not verified"`

	Since time.Time `env:"WELCOME_SINCE" desc:"no mail to who signed up before" want:"a time, 2026-11-26T09:00:00Z"`
}

// percent is a percentage, written "1%" or "1".
type percent float64

// UnmarshalText reads a percentage.
func (p *percent) UnmarshalText(text []byte) error {
	v, err := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(string(text), "%")), 64)
	*p = percent(v)
	return err
}

// EmbeddedPrefix is the beginning of a MONGODB_URI that names the folder of an embedded database.
const EmbeddedPrefix = "embedded:"

// Address returns the HOST:PORT on which the service listens.
func (c Config) Address() string { return net.JoinHostPort(c.Host, c.Port) }

// Secrets returns the signing secrets of webhooks.
func (c Config) Secrets() []string { return list(c.SigningSecrets) }

// Forward returns the patterns of the event types that are forwarded to Inngest.
func (c Config) Forward() []string { return list(c.ForwardEvents) }

// list splits at commas and white space.
func list(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return strings.ContainsRune(", \t\r\n", r) })
}

// Crons returns the cron expression of each tier, by the tier's name, without the tiers that are off. If none is set
// for the full tier, its minute depends on the Clerk instance, or on the app's id if no instance is set. So all
// replicas of a service have the same minute, but not all services ask Clerk's API in the same minute.
func (c Config) Crons() map[string]string {
	full := c.Reconcile.Cron
	if full == "" {
		h := fnv.New32a()
		_, _ = io.WriteString(h, cmp.Or(c.InstanceID, c.Inngest.AppID)) // never fails
		full = fmt.Sprintf("TZ=UTC %d 3 * * *", h.Sum32()%60)
	}
	crons := map[string]string{"recent": c.Reconcile.RecentCron, "absent": c.Reconcile.AbsentCron, "full": full}
	maps.DeleteFunc(crons, func(_, cron string) bool { return isOff(cron) })
	return crons
}

// Embedded returns the folder of the embedded database, and whether MONGODB_URI names one.
func (c Config) Embedded() (dir string, ok bool) {
	return strings.CutPrefix(c.MongoURI, EmbeddedPrefix)
}

// IsURI tells whether MONGODB_URI is a connection string.
func (c Config) IsURI() bool {
	return strings.HasPrefix(c.MongoURI, "mongodb://") || strings.HasPrefix(c.MongoURI, "mongodb+srv://")
}

// DatabaseName returns the name of the database: MONGODB_DATABASE, or the name in the path of the URI, or "clerksync".
func (c Config) DatabaseName() string {
	name := ""
	if _, embedded := c.Embedded(); !embedded {
		name = nameInURI(c.MongoURI)
	}
	return cmp.Or(c.MongoDatabase, name, "clerksync")
}

// nameInURI returns the name of the database in the path of a connection string, or "".
func nameInURI(uri string) string {
	_, rest, _ := strings.Cut(strings.TrimSpace(uri), "://")
	if _, hosts, ok := strings.Cut(rest, "@"); ok { // before it there may be a / that should have been %2F
		rest = hosts
	}
	_, path, _ := strings.Cut(rest, "/")
	name, _, _ := strings.Cut(path, "?")
	if plain, err := url.PathUnescape(name); err == nil { // else the driver refuses the URI
		return plain
	}
	return name
}

// IsDev tells whether INNGEST_DEV asks for a dev server. The SDK would take any value for yes, even "0" and "false".
func (c Inngest) IsDev() bool {
	return c.Dev == "1" || strings.EqualFold(c.Dev, "true") || IsHTTP(c.Dev)
}

// DevKnown tells whether INNGEST_DEV has a known value for on or off. Other values are mistakes, because whoever writes
// "off" must not get a service without signatures.
func (c Inngest) DevKnown() bool {
	return c.IsDev() || c.Dev == "" || c.Dev == "0" || strings.EqualFold(c.Dev, "false")
}

// Origin returns INNGEST_SERVE_ORIGIN without a slash at the end, because a path follows it.
func (c Inngest) Origin() string { return strings.TrimRight(c.ServeOrigin, "/") }

// SelfHosted tells whether Inngest is a dev server or self-hosted, and not Inngest Cloud.
func (c Inngest) SelfHosted() bool { return c.URL() != "" }

// URL returns the URL of a dev server or a self-hosted Inngest, without a slash at the end; "" is Inngest Cloud.
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
