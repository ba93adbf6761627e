package config

import (
	"cmp"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// Traces says where OpenTelemetry's spans go. OpenTelemetry's SDK reads these variables by itself, and more of them
// (https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/). Here are those that turn traces
// on and off, and those that are checked: the SDK would print a wrong value, even a key, and go on without it, or it
// would crash, take all memory, or never rest.
type Traces struct {
	Disabled bool   `env:"SDK_DISABLED" desc:"no traces, whatever else is set"`
	Exporter string `env:"TRACES_EXPORTER" desc:"exporter of traces" want:"otlp or none"`

	Endpoint       string `env:"EXPORTER_OTLP_ENDPOINT" desc:"where traces go" want:"http://HOST:PORT or https://HOST"`
	TracesEndpoint string `env:"EXPORTER_OTLP_TRACES_ENDPOINT" desc:"the same, with the path" want:"https://HOST/PATH"`

	Protocol       string `env:"EXPORTER_OTLP_PROTOCOL" desc:"how they go" want:"http/protobuf, http/json or grpc"`
	TracesProtocol string `env:"EXPORTER_OTLP_TRACES_PROTOCOL" desc:"the same" want:"http/protobuf, http/json or grpc"`

	Headers string `env:"EXPORTER_OTLP_HEADERS" sec:"" desc:"what goes with them, such as a key" want:"NAME=VALUE,…"`

	TracesHeaders string `env:"EXPORTER_OTLP_TRACES_HEADERS" sec:"" desc:"the same" want:"NAME=VALUE,…"`

	Sampler    string `env:"TRACES_SAMPLER" desc:"which traces go there" want:"always_on, always_off or traceidratio"`
	SamplerArg string `env:"TRACES_SAMPLER_ARG" desc:"for traceidratio: the part of them" want:"a number, 0 to 1"`

	QueueSize string `env:"BSP_MAX_QUEUE_SIZE" desc:"spans that wait in memory" want:"a number, 1 to 1000000"`
	BatchSize string `env:"BSP_MAX_EXPORT_BATCH_SIZE" desc:"spans that go at once" want:"a number, 1 to 1000000"`
	Delay     string `env:"BSP_SCHEDULE_DELAY" desc:"milliseconds until they go" want:"a number, 1 to 1000000"`

	Resource string `env:"RESOURCE_ATTRIBUTES" desc:"what all spans say of the service" want:"NAME=VALUE,…"`
}

// On tells whether there are traces.
func (t Traces) On() bool {
	return !t.Disabled && t.Exporter != "none" && (t.Exporter != "" || t.Endpoint != "" || t.TracesEndpoint != "")
}

// Header returns what goes with the traces. The SDK would read it from the environment, but not from a file.
func (t Traces) Header() map[string]string {
	all, _ := pairs(cmp.Or(t.TracesHeaders, t.Headers))
	return all
}

// By returns the protocol by which traces are exported.
func (t Traces) By() string { return cmp.Or(t.TracesProtocol, t.Protocol, "http/protobuf") }

// problems returns what may be wrong. Without traces nothing is: the variables may be there for other programs.
func (t Traces) problems() (all []problem) {
	if !t.On() {
		return nil
	}
	all = append(all,
		problem{t.Exporter != "" && t.Exporter != "otlp", "OTEL_TRACES_EXPORTER", "is neither otlp nor none", ""},
		problem{
			t.Endpoint == "" && t.TracesEndpoint == "", "OTEL_TRACES_EXPORTER", "is set, but not where traces go",
			"set OTEL_EXPORTER_OTLP_ENDPOINT, such as http://localhost:4318",
		},
		problem{!isSampler(t.Sampler), "OTEL_TRACES_SAMPLER", "is no sampler", ""},
		problem{!isRatio(t.SamplerArg), "OTEL_TRACES_SAMPLER_ARG", "is out of range", ""},
		problem{!isSize(t.QueueSize), "OTEL_BSP_MAX_QUEUE_SIZE", "is out of range", ""},
		problem{!isSize(t.BatchSize), "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "is out of range", ""},
		problem{!isSize(t.Delay), "OTEL_BSP_SCHEDULE_DELAY", "is out of range", ""},
		problem{!isPairs(t.Resource), "OTEL_RESOURCE_ATTRIBUTES", "is no list of names with values", ""},
	)
	for name, s := range map[string]string{"": t.Endpoint, "TRACES_": t.TracesEndpoint} {
		u, _ := url.Parse(s)
		name = "OTEL_EXPORTER_OTLP_" + name + "ENDPOINT"
		all = append(all, problem{badURL(s), name, "is no URL", ""}, problem{
			!badURL(s) && (u.User != nil || u.RawQuery != "" || u.Fragment != ""), name,
			"holds more than scheme, host and path, which would not be sent",
			"put a key into OTEL_EXPORTER_OTLP_HEADERS",
		})
	}
	for name, s := range map[string]string{"": t.Protocol, "TRACES_": t.TracesProtocol} {
		known := slices.Contains([]string{"", "http/protobuf", "http/json", "grpc"}, s)
		all = append(all, problem{!known, "OTEL_EXPORTER_OTLP_" + name + "PROTOCOL", "is no known protocol", ""})
	}
	for name, s := range map[string]string{"": t.Headers, "TRACES_": t.TracesHeaders} {
		all = append(all, problem{
			!isPairs(s), "OTEL_EXPORTER_OTLP_" + name + "HEADERS", "is no list of names with values",
			"set it to NAME=VALUE,NAME=VALUE, with %XX for what is no letter or digit in a VALUE",
		})
	}
	return all
}

// pairs reads a list NAME=VALUE,NAME=VALUE as the SDK reads it, and tells whether it is one. "" is an empty list.
func pairs(s string) (all map[string]string, ok bool) {
	if s == "" {
		return nil, true
	}
	all = map[string]string{}
	for pair := range strings.SplitSeq(s, ",") {
		name, value, ok := strings.Cut(pair, "=")
		value, err := url.PathUnescape(value)
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		isName := matches(`^[\w!#$%&'*+.^|~-]+$`, name)
		if !ok || err != nil || !isName || strings.ContainsFunc(value, unicode.IsControl) {
			return nil, false
		}
		all[name] = value
	}
	return all, true
}

func isPairs(s string) bool {
	_, ok := pairs(s)
	return ok
}

func isSampler(s string) bool {
	known := strings.Fields("always_on always_off traceidratio " +
		"parentbased_always_on parentbased_always_off parentbased_traceidratio")
	return s == "" || slices.Contains(known, strings.ToLower(strings.TrimSpace(s)))
}

func isRatio(s string) bool {
	r, err := strconv.ParseFloat(strings.TrimSpace(s), 64)
	return s == "" || err == nil && r >= 0 && r <= 1 // NaN is not
}

func isSize(s string) bool {
	n, err := strconv.Atoi(strings.TrimSpace(s))
	return s == "" || err == nil && n >= 1 && n <= 1e6
}
