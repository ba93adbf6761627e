package config

import (
	"fmt"
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
	"unicode/utf8"

	"github.com/robfig/cron/v3"
)

const (
	wantCron = `set it to five fields such as "TZ=UTC 17 3 * * *", or to off`
	patterns = "set it to patterns such as user.* or leave it unset"
	wantKey  = "copy it again, signkey-… from Inngest's dashboard, or what your own server was given"
	notBoth  = "unset INNGEST_DEV for production, where calls are signed, or the key for a dev server, which signs none"
	wantURI  = "set it to mongodb://HOST/DATABASE, or to embedded:DIR for the embedded database (development only)"
	orDev    = " of your Inngest environment, or INNGEST_DEV=1 for the dev server"
)

// Check returns the mistakes in the settings of 'serve' that can be found without I/O and without the packages that use
// the settings. Of a setting whose file cannot be read there are none but the one that Read returns: that it is not set
// would be wrong.
func (c Config) Check() Mistakes {
	all := mistakes(slices.Concat(
		c.ofService(), c.ofClerk(), c.ofDatabase(), c.Inngest.problems(), c.Traces.problems(),
	))
	return slices.DeleteFunc(all, func(m Mistake) bool { return slices.Contains(c.unread, m.Name) })
}

// ofService returns what may be wrong with the settings of the service itself.
func (c Config) ofService() []problem {
	token := c.AdminToken
	return []problem{
		{!isPort(c.Port), "PORT", "is no port", ""},
		{!isHost(c.Host), "HOST", "is no address", ""},
		{
			c.MetricsAddr != "" && !isAddress(c.MetricsAddr), "METRICS_ADDR", "is no address with a port",
			"set it to HOST:PORT such as 127.0.0.1:9090, or to :9090 for all interfaces, or leave it unset",
		},
		{hasSpace(token), "ADMIN_TOKEN", "holds white space, which no client can send", ""},
		{token != "" && len(token) < 16, "ADMIN_TOKEN", "is too short", ""},
		{!slices.Contains([]string{"", "json", "text"}, c.LogFormat), "LOG_FORMAT", "is neither json nor text", ""},
		{c.ShutdownTimeout <= 0, "SHUTDOWN_TIMEOUT", "is not positive", ""},
		{c.InboxResendAfter <= 0, "INBOX_RESEND_AFTER", "is not positive", ""},
		{c.Batch.Size < 1 || c.Batch.Size > 100, "SYNC_BATCH_SIZE", "is out of range", ""}, // the limits are Inngest's
		{c.Batch.Timeout < time.Second || c.Batch.Timeout > time.Minute, "SYNC_BATCH_TIMEOUT", "is out of range", ""},
	}
}

// ofClerk returns what may be wrong with the settings of webhooks, of Clerk's API and of the comparison with it.
func (c Config) ofClerk() []problem {
	badPatterns, leftOut := c.forwards()
	tiers := c.Reconcile
	return []problem{
		{
			len(c.Secrets()) == 0 && c.otherName == "", "CLERK_WEBHOOK_SIGNING_SECRET", "is not set",
			"set it to the endpoint's signing secret (whsec_…) from Clerk's dashboard, Webhooks",
		},
		{
			len(c.Secrets()) == 0 && c.otherName != "", "CLERK_WEBHOOK_SIGNING_SECRET",
			"is not set, but " + c.otherName + " is",
			"if that is the endpoint's signing secret, you mean CLERK_WEBHOOK_SIGNING_SECRET: rename it",
		},
		{
			c.InstanceID != "" && !matches(`^ins_\w+$`, c.InstanceID), "CLERK_INSTANCE_ID", "is no instance id",
			"set it to ins_… from Clerk's dashboard, or leave it unset",
		},
		{len(c.Forward()) == 0, "CLERK_FORWARD_EVENTS", "names no type", patterns},
		{badPatterns != "", "CLERK_FORWARD_EVENTS", "holds a bad pattern, " + badPatterns, patterns},
		{leftOut != "", "CLERK_FORWARD_EVENTS", "leaves out " + leftOut, "add user.*"},
		{badURL(c.APIURL), "CLERK_API_URL", "is no URL", ""},
		{!(c.RateShare >= 0.001 && c.RateShare <= 1), "CLERK_RATE_SHARE", "is out of range", ""}, // NaN too
		{!isCron(tiers.RecentCron), "RECONCILE_RECENT_CRON", "is no cron expression", wantCron},
		{!isCron(tiers.AbsentCron), "RECONCILE_ABSENT_CRON", "is no cron expression", wantCron},
		{!isCron(tiers.Cron), "RECONCILE_CRON", "is no cron expression", wantCron},
		{!(tiers.MaxDelete >= 0 && tiers.MaxDelete <= 100), "RECONCILE_MAX_DELETE", "is out of range", ""}, // NaN too
		{
			c.FreshnessTarget != nil && *c.FreshnessTarget < c.leastTarget(), "FRESHNESS_TARGET",
			"is shorter than the recent tier can keep", "set it to " + c.leastTarget().String() +
				" or more, or let RECONCILE_RECENT_CRON run more often",
		},
	}
}

// ofDatabase returns what may be wrong with the settings of the database and of what is kept there.
func (c Config) ofDatabase() []problem {
	uriIs, uriDo := c.wrongURI()
	return []problem{
		{uriIs != "", "MONGODB_URI", uriIs, uriDo},
		{c.MongoDatabase != "" && !isDatabase(c.MongoDatabase), "MONGODB_DATABASE", "is no name for a database", ""},
		{c.EmbeddedPort != "" && !isPort(c.EmbeddedPort), "EMBEDDED_PORT", "is no port", ""},
		{
			c.HistoryRetention != 0 && c.HistoryRetention < time.Hour, "HISTORY_RETENTION", "is out of range",
			"set it to a duration of 1h or more, such as 720h for 30 days, or to 0 to keep none",
		},
	}
}

// wrongURI returns what is wrong with MONGODB_URI, and what to do. Of several mistakes it is the first one, from which
// the others may follow. what is "" if there is none.
func (c Config) wrongURI() (what, do string) {
	dir, embedded := c.Embedded()
	uri := strings.TrimSpace(c.MongoURI)
	switch {
	case c.MongoURI == "":
		return "is not set", wantURI
	case strings.ContainsAny(uri, "\r\n"):
		return "has several lines", "write the connection string alone, in one line"
	case strings.TrimLeft(c.MongoURI, "\"' \t\r\n") != c.MongoURI:
		return "begins with a quote or with white space",
			"write the value alone (docker's --env-file takes quotes for a part of it)"
	case strings.TrimRightFunc(c.MongoURI, unicode.IsSpace) != c.MongoURI:
		return "ends with white space", "copy it alone, without the end of the line"
	case embedded && dir == "":
		return "names no folder", "set it to embedded:DIR, such as embedded:./data"
	case embedded:
		return "", ""
	case !c.IsURI():
		return "is of no known kind", "set it to mongodb://…, mongodb+srv://… or embedded:DIR"
	case strings.ContainsFunc(uri, unicode.IsControl) || !utf8.ValidString(uri):
		return "holds a control character, or is not text in UTF-8", "type it again, or copy it from where it is shown"
	case c.MongoDatabase == "" && !isDatabase(c.DatabaseName()):
		return "has something after the host and a / that is no name for a database",
			"write letters, digits, - and _ there, or set MONGODB_DATABASE; " +
				"in a password, every character but letters and digits is written %XX"
	}
	return "", ""
}

// problems returns what may be wrong with the settings of Inngest.
func (i Inngest) problems() []problem {
	dev, prod := i.IsDev(), i.DevKnown() && !i.IsDev()
	return []problem{
		{
			!i.DevKnown(), "INNGEST_DEV", "is neither on nor off",
			"set it to 1 or to the URL of a dev server, or to 0 for production",
		},
		{dev && i.SigningKey != "", "INNGEST_DEV", "is on, but INNGEST_SIGNING_KEY is set", notBoth},
		{dev && i.SigningKeyFallback != "", "INNGEST_DEV", "is on, but INNGEST_SIGNING_KEY_FALLBACK is set", notBoth},
		{badURL(i.BaseURL), "INNGEST_BASE_URL", "is no URL", ""},
		{prod && i.EventKey == "", "INNGEST_EVENT_KEY", "is not set", "set it to an event key" + orDev},
		{prod && i.SigningKey == "", "INNGEST_SIGNING_KEY", "is not set", "set it to the signing key" + orDev},
		{
			hasSpace(i.EventKey), "INNGEST_EVENT_KEY", "holds white space",
			"copy the key alone, without the end of the line",
		},
		{!isHexKey(i.SigningKey), "INNGEST_SIGNING_KEY", "is not hexadecimal", wantKey},
		{!isHexKey(i.SigningKeyFallback), "INNGEST_SIGNING_KEY_FALLBACK", "is not hexadecimal", wantKey},
		{badURL(i.ServeOrigin), "INNGEST_SERVE_ORIGIN", "is no URL", ""},
		{
			!strings.HasPrefix(i.ServePath, "/"), "INNGEST_SERVE_PATH", "does not begin with /",
			"set it to the path at which Inngest reaches /api/inngest",
		},
		{!matches(`^[A-Za-z0-9][A-Za-z0-9._-]*$`, i.AppID), "INNGEST_APP_ID", "is no id", ""},
	}
}

// forwards returns the patterns in CLERK_FORWARD_EVENTS that cannot be used, and the types that no pattern forwards
// although rows depend on them. Leaving these out would lose them: a webhook that is not forwarded is answered 2xx, so
// Clerk never sends it again.
func (c Config) forwards() (bad, leftOut string) {
	var badOnes, types []string
	for _, p := range c.Forward() {
		if _, err := path.Match(p, ""); err != nil {
			badOnes = append(badOnes, fmt.Sprintf("%q", p))
		}
	}
	for _, typ := range []string{"user.created", "user.updated", "user.deleted"} {
		forwards := func(p string) bool { ok, _ := path.Match(p, typ); return ok }
		if len(badOnes) == 0 && len(c.Forward()) > 0 && !slices.ContainsFunc(c.Forward(), forwards) {
			types = append(types, typ)
		}
	}
	return strings.Join(badOnes, ", "), strings.Join(types, ", ")
}

func matches(pattern, s string) bool { return regexp.MustCompile(pattern).MatchString(s) }

func isDatabase(s string) bool {
	unseen := func(r rune) bool { return !unicode.IsPrint(r) } // such as a zero-width space that was copied with it
	return !strings.ContainsAny(s, "/\\. \"$*<>:|?") && !strings.ContainsFunc(s, unseen) &&
		utf8.ValidString(s) && len(s) <= 63
}

func hasSpace(s string) bool { return strings.ContainsFunc(s, unicode.IsSpace) }

func isPort(s string) bool {
	_, err := strconv.ParseUint(s, 10, 16)
	return err == nil
}

// isHost tells whether the service could listen on s: an IP address, the name of a host, or "" for all interfaces.
func isHost(s string) bool {
	_, err := netip.ParseAddr(s)
	return s == "" || err == nil || matches(`^\w([\w.-]*\w)?$`, s)
}

// isAddress tells whether the service could listen on s: HOST:PORT, with a HOST as isHost has it.
func isAddress(s string) bool {
	host, port, err := net.SplitHostPort(s)
	return err == nil && isHost(host) && isPort(port)
}

// isCron tells whether s is "" (the default), "off", or a cron expression that Inngest accepts: five fields, perhaps
// with TZ=… before them. Inngest's servers use the same parser.
func isCron(s string) (ok bool) {
	defer func() { _ = recover() }() // the parser panics at a time zone without a space after it, such as TZ=UTC
	_, err := cron.ParseStandard(s)
	return s == "" || isOff(s) || err == nil && !strings.Contains(s, "@")
}

func isOff(cron string) bool { return strings.EqualFold(cron, "off") }

// isHexKey tells whether s has the form of a signing key, or is "".
func isHexKey(s string) bool { return s == "" || matches(`^(signkey-\w+-)?([0-9a-fA-F]{2})+$`, s) }

func badURL(s string) bool { return s != "" && !IsHTTP(s) }

// IsHTTP tells whether s is an http or https URL with a host.
func IsHTTP(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != ""
}
