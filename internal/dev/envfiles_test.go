package dev

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"clerksync/config"

	"github.com/google/go-cmp/cmp"
)

const (
	secretName = "CLERK_WEBHOOK_SIGNING_SECRET"
	keyName    = "CLERK_SECRET_KEY"
)

// take returns what is taken from the files in a new working folder, and the lines that are said. A file with the text
// "-" is left out.
func take(t *testing.T, local, env string, isSet ...string) (taken, said []string) {
	t.Helper()
	t.Chdir(t.TempDir())
	for name, text := range map[string]string{".env.local": local, ".env": env} {
		if text != "-" {
			if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	return takeHere(isSet...)
}

func takeHere(isSet ...string) (taken, said []string) {
	taken = FromEnvFiles(
		Names{Secret: secretName, Key: keyName, Other: config.OtherName},
		func(name string) bool { return strings.Contains(strings.Join(isSet, " "), name) },
		func(format string, args ...any) { said = append(said, fmt.Sprintf(format, args...)) },
	)
	return taken, said
}

// TestEnvFiles: of an app's files of settings, 'dev' takes the signing secret and a key of a development instance, the
// environment wins, then .env.local, and nothing that is said quotes a value.
func TestEnvFiles(t *testing.T) {
	const (
		other    = "whsec_Y2xlcmtzeW5jIHRlc3Qgc2VjcmV0IDI="
		isSecret = secretName + "=" + secret
		isKey    = keyName + "=sk_test_hunter2"
		took     = "took CLERK_WEBHOOK_SIGNING_SECRET from .env; nothing else in there is used"
	)
	for name, tc := range map[string]struct {
		local, env string
		isSet      []string
		taken      []string
		said       []string
	}{
		"none": {local: "-", env: "-"},
		"both": {
			local: isKey, env: isSecret, taken: []string{isKey, isSecret},
			said: []string{"took CLERK_SECRET_KEY from .env.local and CLERK_WEBHOOK_SIGNING_SECRET from .env; " +
				"nothing else in there is used"},
		},
		".env.local wins": {
			local: isSecret, env: secretName + "=" + other, taken: []string{isSecret},
			said: []string{strings.Replace(took, ".env", ".env.local", 1)},
		},
		"the environment wins": {local: isSecret, env: isSecret, isSet: []string{secretName}},
		"an empty one": {
			local: secretName + "=\n", env: isSecret, taken: []string{isSecret}, said: []string{took},
		},
		"nothing else": {
			local: "-", env: "MONGODB_URI=mongodb://hunter2@prod\nSMTP_URL=smtp://hunter2\nPORT=1\n" +
				"INNGEST_EVENT_KEY=hunter2\n",
		},
		"a live key": {
			local: "-", env: "CLERK_SECRET_KEY=sk_live_hunter2",
			said: []string{"CLERK_SECRET_KEY in .env is not taken: it is not a development instance's (sk_test_…); " +
				"set it in the environment if you mean it"},
		},
		"a live key, and one in the environment": {
			local: "-", env: "CLERK_SECRET_KEY=sk_live_hunter2", isSet: []string{keyName},
		},
		"what only stands for a secret": {
			local: secretName + "=whsec_...", env: isSecret, taken: []string{isSecret},
			said: []string{"CLERK_WEBHOOK_SIGNING_SECRET in .env.local is not taken: it is not base64 after whsec_; " +
				"copy it again from Clerk's dashboard, Webhooks", took},
		},
		"two secrets": {
			local: "-", env: secretName + `="` + secret + ", " + other + `"`,
			taken: []string{secretName + "=" + secret + ", " + other}, said: []string{took},
		},
		"another name": {
			local: "CLERK_WEBHOOK_SECRET=hunter2", env: "WEBHOOK_SECRET=whsec_hunter2",
			said: []string{
				"CLERK_WEBHOOK_SECRET in .env.local is not taken: if that is the endpoint's signing secret, you mean " +
					"CLERK_WEBHOOK_SIGNING_SECRET",
				"WEBHOOK_SECRET in .env is not taken: if that is the endpoint's signing secret, you mean " +
					"CLERK_WEBHOOK_SIGNING_SECRET",
			},
		},
		"another name beside the right one": {
			local: "CLERK_WEBHOOK_SECRET=" + secret, env: isSecret, taken: []string{isSecret}, said: []string{took},
		},
		"somebody else's secrets": {local: "STRIPE_WEBHOOK_SECRET=whsec_hunter2", env: "WEBHOOK_SECRET=hunter2"},
		"double quotes": {
			local: "-", env: secretName + `="` + secret + `"`, taken: []string{isSecret},
			said: []string{took},
		},
		"single quotes": {
			local: "-", env: secretName + `='` + secret + `'`, taken: []string{isSecret},
			said: []string{took},
		},
		"export and blanks": {
			local: "-", env: "\n  export  " + secretName + " =  " + secret + "  \n", taken: []string{isSecret},
			said: []string{took},
		},
		"comments": {
			local: "-", env: "# " + secretName + "=x\n" + isSecret + " # the endpoint's\n#", taken: []string{isSecret},
			said: []string{took},
		},
		"CRLF": {
			local: "-", env: "A=1\r\n" + isSecret + "\r\nB=2\r\n", taken: []string{isSecret},
			said: []string{took},
		},
		"a byte order mark": {
			local: "-", env: "\ufeff" + isSecret, taken: []string{isSecret},
			said: []string{took},
		},
		"more lines in quotes": {
			local: "-", env: "KEY=\"-----BEGIN\nhunter2=\n-----END\"\n" + isSecret, taken: []string{isSecret},
			said: []string{took},
		},
		"no command is run, and no variable is read": {
			local: "-", env: "X=$(touch ran)\nY=`touch ran`\nZ=${PATH}\n" + secretName + "=$PATH\n" + keyName +
				"=sk_test_$(touch ran)",
			taken: []string{keyName + "=sk_test_$(touch ran)"},
			said:  []string{"took CLERK_SECRET_KEY from .env; nothing else in there is used"},
		},
		"broken": {
			local: "hunter2 is no line\n" + isSecret, env: isSecret, taken: []string{isSecret},
			said: []string{".env.local is passed over: it has something else than lines NAME=value, or a quote " +
				"without an end; set CLERK_WEBHOOK_SIGNING_SECRET in the environment", took},
		},
		"a quote without an end": {
			local: "-", env: `A="hunter2` + "\n" + isSecret,
			said: []string{".env is passed over: it has something else than lines NAME=value, or a quote without an " +
				"end; set CLERK_WEBHOOK_SIGNING_SECRET in the environment"},
		},
		"huge": {
			local: "-", env: strings.Repeat("#", maxEnvFile) + "\n" + isSecret,
			said: []string{".env is passed over: it is larger than 256 KB; " +
				"set CLERK_WEBHOOK_SIGNING_SECRET in the environment"},
		},
		"UTF-16": {
			local: "-", env: "\xff\xfeA\x00=\x00",
			said: []string{".env is passed over: it is not text in UTF-8; " +
				"set CLERK_WEBHOOK_SIGNING_SECRET in the environment"},
		},
		"many comments": {local: "-", env: strings.Repeat("#\n", maxEnvFile/2)},
		"an empty file": {local: "", env: "\n"},
	} {
		t.Run(name, func(t *testing.T) {
			taken, said := take(t, tc.local, tc.env, tc.isSet...)
			if diff := cmp.Diff(tc.taken, taken); diff != "" {
				t.Errorf("taken (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tc.said, said); diff != "" {
				t.Errorf("said (-want +got):\n%s", diff)
			}
			if all := strings.Join(said, "\n"); strings.Contains(all, "hunter2") || strings.Contains(all, secret) {
				t.Errorf("a value is said: %s", all)
			}
			if _, err := os.Stat("ran"); err == nil {
				t.Error("a command was run")
			}
		})
	}
}
