package config

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestNameInURI(t *testing.T) {
	t.Parallel()
	for uri, want := range map[string]string{
		"mongodb://h":                     "",
		"mongodb://h/":                    "",
		"mongodb://h/app":                 "app",
		"mongodb://u:p@h1:1,h2:2/app?w=1": "app",
		"mongodb+srv://h/?retryWrites=1":  "",
		"mongodb://h/caf%C3%A9":           "café",
	} {
		if got := nameInURI(uri); got != want {
			t.Errorf("nameInURI(%q) = %q, want %q", uri, got, want)
		}
	}
}

func TestDatabaseName(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ uri, set, want string }{
		"set":         {"mongodb://h/app", "other", "other"},
		"in the path": {"mongodb://h/app?x=1", "", "app"},
		"neither":     {"mongodb://h", "", "clerksync"},
		"embedded":    {"embedded:./data/x", "", "clerksync"},
	} {
		if got := (Config{MongoURI: tc.uri, MongoDatabase: tc.set}).DatabaseName(); got != tc.want {
			t.Errorf("%s: got %q, want %q", name, got, tc.want)
		}
	}
}

// TestFullTierIsSpread: instances, and apps where no instance is set, get minutes all over the hour.
func TestFullTierIsSpread(t *testing.T) {
	t.Parallel()
	for name, of := range map[string]func(id string) Config{
		"instances": func(id string) Config {
			return Config{InstanceID: "ins_" + id, Inngest: Inngest{AppID: "clerksync"}}
		},
		"apps": func(id string) Config { return Config{Inngest: Inngest{AppID: id}} },
	} {
		seen := map[string]bool{}
		for i := range 600 {
			seen[of(fmt.Sprint(i)).Crons()["full"]] = true
		}
		if len(seen) < 50 || len(seen) > 60 {
			t.Errorf("%s: got %d minutes, want nearly all 60", name, len(seen))
		}
	}
}

func TestInngestURL(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		c    Inngest
		dev  bool
		want string
	}{
		"cloud":           {Inngest{}, false, ""},
		"dev":             {Inngest{Dev: "1"}, true, "http://127.0.0.1:8288"},
		"dev elsewhere":   {Inngest{Dev: "http://inngest:8288/"}, true, "http://inngest:8288"},
		"not dev":         {Inngest{Dev: "false"}, false, ""},
		"self-hosted":     {Inngest{BaseURL: "https://i.example"}, false, "https://i.example"},
		"both, base wins": {Inngest{Dev: "1", BaseURL: "http://i:1"}, true, "http://i:1"},
	} {
		if tc.c.IsDev() != tc.dev || tc.c.URL() != tc.want {
			t.Errorf("%s: got %v %s", name, tc.c.IsDev(), tc.c.URL())
		}
	}
}

// TestServeOriginWithSlash: with the slash, Inngest was told of https://app.example//api/inngest, which is no route.
func TestServeOriginWithSlash(t *testing.T) {
	t.Parallel()
	if got := (Inngest{ServeOrigin: "https://app.example/"}).Origin(); got != "https://app.example" {
		t.Errorf("got %q, want no slash at the end", got)
	}
}

// TestEndOfLine: a secret that was made of a file has the end of its line. With it, the rows went to a database of
// another name, and each event was refused.
func TestEndOfLine(t *testing.T) {
	t.Parallel()
	for env, want := range map[string]string{
		"MONGODB_URI=mongodb://h/app\n":     "MONGODB_URI ends with white space: ",
		"MONGODB_URI=mongodb://h/\r\n":      "MONGODB_URI ends with white space: ",
		"MONGODB_URI=embedded:./data\n":     "MONGODB_URI ends with white space: ",
		"MONGODB_URI=mongodb://h/app\n?w=1": "MONGODB_DATABASE is no name for a database: ",
		"MONGODB_DATABASE=app\n":            "MONGODB_DATABASE is no name for a database: ",
		"INNGEST_EVENT_KEY=key\n":           "INNGEST_EVENT_KEY holds white space: ",
	} {
		name, _, _ := strings.Cut(want, " ")
		prefix, _, _ := strings.Cut(name, "_")
		c, unreadable := Read([]string{"MONGODB_URI=mongodb://h/app", "INNGEST_DEV=1", env})
		all := append(unreadable, c.Check()...).Only(prefix)
		if len(all) != 1 || !strings.HasPrefix(all[0].Text, want) {
			t.Errorf("%q: got %v, want one mistake, %s", env, all, want)
		}
	}
}

// TestEverySettingIsDescribed: --help says of every setting what it is, and every message what to set it to.
func TestEverySettingIsDescribed(t *testing.T) {
	t.Parallel()
	for _, s := range Settings() {
		if s.Description == "" {
			t.Errorf("%s has no description", s.Name)
		}
		if _, mistakes := Read([]string{s.Name + "=?"}); len(mistakes) > 0 && s.want == "" {
			t.Errorf("%s can be unreadable, and nothing says what is wanted", s.Name)
		}
	}
}

// TestErrKeepsAll: a mistake of another package in a setting that is not known here is told too.
func TestErrKeepsAll(t *testing.T) {
	t.Parallel()
	err := Mistakes{{"PORT", "b"}, {"THEIRS", "a"}, {"PORT", "c"}}.Err()
	if err == nil || err.Error() != "a\nb\nc" {
		t.Errorf("got %v, want a, b and c", err)
	}
	if err := (Mistakes{}).Err(); err != nil {
		t.Errorf("without mistakes: got %v", err)
	}
}

// TestMistakesAreKnown: every mistake is of a setting that there is, and says what to do.
func TestMistakesAreKnown(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]Config{
		"nothing": {},
		"nonsense": {
			Port: "x", Host: "/", AdminToken: " ", LogFormat: "x", InstanceID: "x", ForwardEvents: "[", APIURL: "x",
			Reconcile: Reconcile{RecentCron: "x", AbsentCron: "x", Cron: "x", MaxDelete: -1}, MongoURI: "x",
			MongoDatabase: "/",
			Inngest: Inngest{
				Dev: "1", BaseURL: "x", SigningKey: "x", SigningKeyFallback: "x", ServeOrigin: "x", ServePath: "x",
				AppID: "/",
			},
		},
		"other nonsense": {Inngest: Inngest{Dev: "x"}, MongoURI: EmbeddedPrefix, ForwardEvents: "x"},
		"production":     {Inngest: Inngest{Dev: "0"}},
	} {
		mistakes := c.Check()
		for _, m := range mistakes {
			if !slices.ContainsFunc(Settings(), func(s Setting) bool { return s.Name == m.Name }) {
				t.Errorf("%s: %s is no setting", name, m.Name)
			}
		}
		lines := strings.Split(mistakes.Err().Error(), "\n")
		if len(lines) != len(mistakes) {
			t.Errorf("%s: %d lines for %d mistakes: %q", name, len(lines), len(mistakes), lines)
		}
		for _, line := range lines {
			what, do, _ := strings.Cut(line, ": ")
			if strings.Count(what, " ") < 2 || strings.Contains(do, "to ,") || do == "" {
				t.Errorf("%s: %q does not say what to do", name, line)
			}
		}
	}
}

// TestMetricsAddr: METRICS_ADDR is an address with a port, and one line says so.
func TestMetricsAddr(t *testing.T) {
	t.Parallel()
	for addr, ok := range map[string]bool{
		"": true, ":9090": true, "127.0.0.1:9090": true, "[::1]:9090": true, "metrics.internal:9090": true, ":0": true,
		"9090": false, "127.0.0.1": false, "::1:9090": false, "http://h:9090": false, ":metrics": false, ":65536": false,
		"h:9090/metrics": false, "h:9090\n": false, "a b:9090": false, "u@h:9090": false, ":": false, "h:-1": false,
	} {
		c, unreadable := Read([]string{"METRICS_ADDR=" + addr})
		all := append(unreadable, c.Check()...).Only("METRICS_ADDR")
		if ok != (len(all) == 0) || len(all) > 1 {
			t.Errorf("%q: got %v, want right: %v", addr, all, ok)
		}
	}
}
