package main

import (
	"bytes"
	"context"
	"maps"
	"strings"
	"testing"
	"time"

	"clerksync/internal/testenv"

	"github.com/google/go-cmp/cmp"
)

// notThere is what is said of a database's name in a URI.
const notThere = "has something after the host and a / that is no name for a database: write letters, digits, - and _ "

// badSettings is a case of TestSettings.
type badSettings struct {
	set  map[string]string
	want []string // how the lines begin
}

// badURI is a MONGODB_URI, and what is said of it in a line that is the only one. Several lines were called a mistake
// in MONGODB_DATABASE, which was not set.
func badURI(uri, want string) badSettings {
	return badSettings{map[string]string{"MONGODB_URI": uri, "MONGODB_DATABASE": ""}, []string{"MONGODB_URI " + want}}
}

// TestSettings: every mistake is reported at start, all at once, in the order of the settings, a line each that says
// what to set and quotes no secret.
func TestSettings(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]badSettings{
		"nothing set": {
			map[string]string{
				"HOST": "", "PORT": "", "CLERK_WEBHOOK_SIGNING_SECRET": "", "MONGODB_URI": "", "INNGEST_DEV": "",
			},
			[]string{
				"CLERK_WEBHOOK_SIGNING_SECRET is not set: set it to",
				"MONGODB_URI is not set: set it to mongodb://HOST/DATABASE, or to embedded:DIR",
				"INNGEST_EVENT_KEY is not set: set it to", "INNGEST_SIGNING_KEY is not set: set it to",
			},
		},
		"everything wrong": {
			map[string]string{
				"PORT": "http", "CLERK_WEBHOOK_SIGNING_SECRET": testenv.Secret + " hunter2",
				"CLERK_FORWARD_EVENTS": "user.[", "CLERK_FORWARD_PRIVATE_METADATA": "hunter2",
				"MONGODB_URI": "postgres://u:hunter2@h/x", "INNGEST_SIGNING_KEY": "hunter2",
				"INNGEST_BASE_URL": "inngest:8288", "INNGEST_SERVE_ORIGIN": "x",
				"INNGEST_SERVE_PATH": "x", "INNGEST_APP_ID": "it's", "LOG_LEVEL": "loud", "LOG_FORMAT": "xml",
				"INBOX_RESEND_AFTER": "-1m", "SHUTDOWN_TIMEOUT": "soon",
				"SMTP_URL": "smtp://u:hunter2@", "WELCOME_UNVERIFIED": "maybe", "SYNC_BATCH_SIZE": "lots",
				"SYNC_BATCH_TIMEOUT": "1h", "APP_URL": "x", "WELCOME_SINCE": "yesterday",
			},
			[]string{
				"PORT is no port", "LOG_LEVEL cannot be read", "LOG_FORMAT is neither",
				"SHUTDOWN_TIMEOUT cannot be read",
				"INBOX_RESEND_AFTER is not positive",
				`CLERK_WEBHOOK_SIGNING_SECRET: secret 2 does not begin with "whsec_"`,
				"CLERK_FORWARD_EVENTS holds a bad pattern", "CLERK_FORWARD_PRIVATE_METADATA cannot be read",
				"MONGODB_URI is of no known kind", "INNGEST_DEV is on, but INNGEST_SIGNING_KEY is set",
				"INNGEST_BASE_URL is no URL",
				"INNGEST_SIGNING_KEY is not hexadecimal", "INNGEST_SERVE_ORIGIN is no URL",
				"INNGEST_SERVE_PATH does not begin with /", "INNGEST_APP_ID is no id", "SYNC_BATCH_SIZE cannot be read",
				"SYNC_BATCH_TIMEOUT is out of range", "SMTP_URL names no host", "MAIL_FROM is not set",
				"APP_URL is no URL",
				"WELCOME_UNVERIFIED cannot be read",
				"WELCOME_SINCE cannot be read: set it to a time, 2026-11-26T09:00:00Z, or leave it unset",
			},
		},
		"mails since next year": {
			map[string]string{
				"SMTP_URL": "smtp://mail.example", "MAIL_FROM": "app@app.example",
				"WELCOME_SINCE": time.Now().Add(time.Hour).Format(time.RFC3339),
			},
			[]string{"WELCOME_SINCE is in the future, so nobody would get a welcome mail: set it to a time"},
		},
		"users that are not forwarded": {
			map[string]string{"CLERK_FORWARD_EVENTS": "'user.*' session.*"},
			[]string{"CLERK_FORWARD_EVENTS leaves out user.created, user.updated, user.deleted: add user.*"},
		},
		"deletions that are not forwarded": {
			map[string]string{"CLERK_FORWARD_EVENTS": "user.created,user.updated"}, []string{
				"CLERK_FORWARD_EVENTS leaves out user.deleted: add user.*",
			},
		},
		"keys of two lines": {
			map[string]string{"CLERK_SECRET_KEY": testenv.ClerkKey + "\n", "ADMIN_TOKEN": "0123456789abcdef hunter2"},
			[]string{"ADMIN_TOKEN holds white space", "CLERK_SECRET_KEY holds white space"},
		},
		"a port alone": {
			map[string]string{"METRICS_ADDR": "9090"},
			[]string{"METRICS_ADDR is no address with a port: set it to HOST:PORT such as 127.0.0.1:9090, or"},
		},
		"no number": {
			map[string]string{"RECONCILE_MAX_DELETE": "NaN", "CLERK_RATE_SHARE": "NaN"},
			[]string{"CLERK_RATE_SHARE is out of range", "RECONCILE_MAX_DELETE is out of range"},
		},
		"crons": {
			map[string]string{
				"RECONCILE_CRON": "@daily", "RECONCILE_ABSENT_CRON": "often", "RECONCILE_RECENT_CRON": "0 */5 * * * *",
				"RECONCILE_MAX_DELETE": "-1",
			},
			[]string{
				"RECONCILE_RECENT_CRON is no cron expression",
				"RECONCILE_ABSENT_CRON is no cron expression: set it to five fields",
				"RECONCILE_CRON is no cron expression", "RECONCILE_MAX_DELETE is out of range",
			},
		},
		"time zones alone": {
			map[string]string{
				"RECONCILE_CRON": "TZ=UTC", "RECONCILE_ABSENT_CRON": "CRON_TZ=",
				"RECONCILE_RECENT_CRON": "TZ=UTC\t17\t3\t*\t*\t*",
			},
			[]string{
				"RECONCILE_RECENT_CRON is no cron expression", "RECONCILE_ABSENT_CRON is no cron expression",
				"RECONCILE_CRON is no cron expression: set it to five fields",
			},
		},
		"off": {
			map[string]string{"INNGEST_DEV": "off"}, []string{
				"INNGEST_DEV is neither on nor off: set it to 1 or to the URL",
			},
		},
		"no":       {map[string]string{"INNGEST_DEV": "no"}, []string{"INNGEST_DEV is neither on nor off"}},
		"disabled": {map[string]string{"INNGEST_DEV": "disabled"}, []string{"INNGEST_DEV is neither on nor off"}},
		"space 0":  {map[string]string{"INNGEST_DEV": " 0"}, []string{"INNGEST_DEV is neither on nor off"}},
		"00":       {map[string]string{"INNGEST_DEV": "00"}, []string{"INNGEST_DEV is neither on nor off"}},
		"dev mode beside a key": {
			map[string]string{"INNGEST_SIGNING_KEY": "signkey-test-00"}, []string{
				"INNGEST_DEV is on, but INNGEST_SIGNING_KEY is set: unset INNGEST_DEV",
			},
		},
		"dev mode beside the second key": {
			map[string]string{"INNGEST_DEV": "TRUE", "INNGEST_SIGNING_KEY_FALLBACK": "signkey-test-00"}, []string{
				"INNGEST_DEV is on, but INNGEST_SIGNING_KEY_FALLBACK is set: unset INNGEST_DEV",
			},
		},
		"a host with a port": {
			map[string]string{"HOST": "127.0.0.1:3000"}, []string{"HOST is no address: set it to an IP address"},
		},
		"a host that is a URL": {map[string]string{"HOST": "http://0.0.0.0"}, []string{"HOST is no address"}},
		"a host in brackets":   {map[string]string{"HOST": "[::1]"}, []string{"HOST is no address"}},
		"another instance id": {
			map[string]string{"CLERK_INSTANCE_ID": "ins_1 ins_2"}, []string{
				"CLERK_INSTANCE_ID is no instance id: set it to",
			},
		},
		"a key for an instance": {
			map[string]string{"CLERK_INSTANCE_ID": "sk_live_hunter2"}, []string{
				"CLERK_INSTANCE_ID is no instance id: set it to",
			},
		},
		"off means off": {
			map[string]string{"INNGEST_DEV": "0"}, []string{
				"INNGEST_EVENT_KEY is not set", "INNGEST_SIGNING_KEY is not set",
			},
		},
		"false means off": {
			map[string]string{"INNGEST_DEV": "False", "INNGEST_EVENT_KEY": "k"}, []string{
				"INNGEST_SIGNING_KEY is not set",
			},
		},
		"a URI that is none": {
			map[string]string{"MONGODB_URI": "mongodb://u:hunter2@h:port", "MONGODB_DATABASE": "a/b"},
			[]string{"MONGODB_URI has a port that is no number", "MONGODB_DATABASE is no name"},
		},
		"a URI of two lines":     badURI("mongodb://u:hunter2@h/app\nFOO=1", "has several lines: write the connection"),
		"a break in the options": badURI("mongodb://u:hunter2@h/app?\r\ntls=true", "has several lines"),
		"an embedded one, too":   badURI("embedded:./data\nFOO=1", "has several lines"),
		"two URIs":               badURI("mongodb://h/a,mongodb://i/a", notThere),
		"a quote at the end":     badURI(`mongodb://u:hunter2@h/app"`, notThere),
		"quotes around it":       badURI(`"mongodb://u:hunter2@h/app"`, "begins with a quote or with white space"),
		"a collection":           badURI("mongodb://u:hunter2@h/app.users", notThere),
		"a space nobody sees":    badURI("mongodb://u:hunter2@h/app\u200b", notThere),
		"a tab":                  badURI("mongodb://u:hunt\ter2@h/app", "holds a control character, or"),
		"Latin-1":                badURI("mongodb://u:hunter2\xe9@h/app", "holds a control character, or is not text"),
		"a / in a password":      badURI("mongodb://u:a@hunter/2@h/app", notThere),
		"unacknowledged writes": {
			map[string]string{"MONGODB_URI": "mongodb://h/x?w=0"}, []string{
				"MONGODB_URI asks for unacknowledged writes (w=0): remove w=0",
			},
		},
		"no folder": {
			map[string]string{"MONGODB_URI": "embedded:"}, []string{"MONGODB_URI names no folder"},
		},
		"a database with a dot": {
			map[string]string{"MONGODB_DATABASE": "a.b"}, []string{"MONGODB_DATABASE is no name"},
		},
		"an empty key": {
			map[string]string{"CLERK_WEBHOOK_SIGNING_SECRET": "whsec_"}, []string{
				"CLERK_WEBHOOK_SIGNING_SECRET: secret 1 is too short",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			settings := good(t)
			maps.Copy(settings, tc.set)
			var out bytes.Buffer
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second) // it refuses at once
			defer cancel()
			err := run(ctx, []string{"serve"}, environ(settings), &out, &out)
			if err == nil {
				t.Fatal("it started")
			}
			got := strings.Split(err.Error(), "\n")
			for i, line := range got {
				for _, want := range tc.want {
					if strings.HasPrefix(line, want) {
						got[i] = want
					}
				}
			}
			if d := cmp.Diff(tc.want, got); d != "" {
				t.Errorf("errors (-want +got):\n%s", d)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("a secret is quoted: %v", err)
			}
		})
	}
}
