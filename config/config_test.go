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
		"MONGODB_URI=mongodb://h/app\n?w=1": "MONGODB_URI has several lines: ",
		"MONGODB_DATABASE=app\n":            "MONGODB_DATABASE is no name for a database: ",
		"INNGEST_EVENT_KEY=key\n":           "INNGEST_EVENT_KEY holds white space: ",
	} {
		name, _, _ := strings.Cut(want, " ")
		prefix, _, _ := strings.Cut(name, "_")
		c, unreadable := Read([]string{"MONGODB_URI=mongodb://h/app", "INNGEST_DEV=1", env}, nil)
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
		if _, mistakes := Read([]string{s.Name + "=?"}, nil); len(mistakes) > 0 && s.want == "" {
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
		"9090": false, "127.0.0.1": false, "::1:9090": false, "http://h:9090": false, ":metrics": false,
		":65536":         false,
		"h:9090/metrics": false, "h:9090\n": false, "a b:9090": false, "u@h:9090": false, ":": false, "h:-1": false,
	} {
		c, unreadable := Read([]string{"METRICS_ADDR=" + addr}, nil)
		all := append(unreadable, c.Check()...).Only("METRICS_ADDR")
		if ok != (len(all) == 0) || len(all) > 1 {
			t.Errorf("%q: got %v, want right: %v", addr, all, ok)
		}
	}
}

// TestTraces: what is wrong with OpenTelemetry's variables is said in one line that quotes no value. Without traces
// nothing is wrong: the variables may be for others.
func TestTraces(t *testing.T) {
	t.Parallel()
	const endpoint = "OTEL_EXPORTER_OTLP_ENDPOINT=http://KEY.example:4318"
	const traces = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT="
	const headers, sampler, arg = "OTEL_EXPORTER_OTLP_HEADERS=", "OTEL_TRACES_SAMPLER=", "OTEL_TRACES_SAMPLER_ARG="
	for name, tc := range map[string]struct {
		set  string // besides the endpoint
		want string // the mistake's beginning; "" for none
	}{
		"nothing":           {},
		"grpc":              {set: "OTEL_EXPORTER_OTLP_PROTOCOL=grpc"},
		"another protocol":  {"OTEL_EXPORTER_OTLP_PROTOCOL=KEY", "OTEL_EXPORTER_OTLP_PROTOCOL is no known protocol: "},
		"of traces":         {"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=h2", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL is no"},
		"exporter":          {set: "OTEL_TRACES_EXPORTER=otlp"},
		"another exporter":  {"OTEL_TRACES_EXPORTER=console", "OTEL_TRACES_EXPORTER is neither otlp nor none: "},
		"with a path":       {set: traces + "https://h/a/b"},
		"no scheme":         {traces + "KEY:4317", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is no URL: "},
		"end of line":       {traces + "http://KEY:4317\n", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is no URL: "},
		"a password":        {traces + "http://u:KEY@h", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT holds more than"},
		"a query":           {traces + "http://h/?k=KEY", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT holds more than"},
		"headers":           {set: headers + "a=%20b, x-c=d"},
		"a header alone":    {headers + "KEY", "OTEL_EXPORTER_OTLP_HEADERS is no list"},
		"a comma too many":  {headers + "a=KEY,", "OTEL_EXPORTER_OTLP_HEADERS is no list"},
		"a bad escape":      {headers + "a=KEY%", "OTEL_EXPORTER_OTLP_HEADERS is no list"},
		"a header's name":   {headers + "a key=b", "OTEL_EXPORTER_OTLP_HEADERS is no list"},
		"sampler":           {set: sampler + "parentbased_traceidratio"},
		"another sampler":   {sampler + "jaeger_remote", "OTEL_TRACES_SAMPLER is no sampler: "},
		"half a sampler":    {sampler + "parentbased_", "OTEL_TRACES_SAMPLER is no sampler: "},
		"a tenth":           {set: arg + "0.1"},
		"a percentage":      {arg + "10", "OTEL_TRACES_SAMPLER_ARG is out of range: "},
		"no number":         {arg + "NaN", "OTEL_TRACES_SAMPLER_ARG is out of range: "},
		"attributes":        {set: "OTEL_RESOURCE_ATTRIBUTES=a.b=c,d="},
		"a queue":           {set: "OTEL_BSP_MAX_QUEUE_SIZE=4096"},
		"a negative queue":  {"OTEL_BSP_MAX_QUEUE_SIZE=-1", "OTEL_BSP_MAX_QUEUE_SIZE is out of range: "},
		"a huge queue":      {"OTEL_BSP_MAX_QUEUE_SIZE=99999999999", "OTEL_BSP_MAX_QUEUE_SIZE is out of range: "},
		"a negative batch":  {"OTEL_BSP_MAX_EXPORT_BATCH_SIZE=-1", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE is out of"},
		"no pause":          {"OTEL_BSP_SCHEDULE_DELAY=0", "OTEL_BSP_SCHEDULE_DELAY is out of range: "},
		"a value alone":     {"OTEL_RESOURCE_ATTRIBUTES=KEY", "OTEL_RESOURCE_ATTRIBUTES is no list"},
		"neither yes or no": {"OTEL_SDK_DISABLED=KEY", "OTEL_SDK_DISABLED cannot be read: "},
	} {
		c, mistakes := Read([]string{endpoint, tc.set}, nil)
		mistakes = append(mistakes, c.Check()...).Only("OTEL_")
		switch {
		case !c.Traces.On():
			t.Errorf("%s: there are no traces", name)
		case tc.want == "" && len(mistakes) > 0, len(mistakes) > 1:
			t.Errorf("%s: got %v", name, mistakes)
		case tc.want == "":
		case len(mistakes) == 0 || !strings.HasPrefix(mistakes[0].Text, tc.want):
			t.Errorf("%s: got %v, want %s", name, mistakes, tc.want)
		case strings.Contains(mistakes[0].Text, "KEY") || strings.Contains(mistakes[0].Text, "\n"):
			t.Errorf("%s: %q quotes the value, or is not one line", name, mistakes[0].Text)
		}
		for _, off := range []string{"OTEL_SDK_DISABLED=true", "OTEL_TRACES_EXPORTER=none"} {
			c, _ := Read([]string{endpoint, tc.set, off}, nil)
			if mistakes := c.Check().Only("OTEL_"); c.Traces.On() || len(mistakes) > 0 {
				t.Errorf("%s, %s: got %v", name, off, mistakes)
			}
		}
	}
	c, _ := Read([]string{"OTEL_TRACES_EXPORTER=otlp"}, nil)
	if m := c.Check().Only("OTEL_"); len(m) != 1 || !strings.Contains(m[0].Text, "set OTEL_EXPORTER_OTLP_ENDPOINT") {
		t.Errorf("no endpoint: got %v", m)
	}
}
