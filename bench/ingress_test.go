package bench_test

import (
	"cmp"
	"crypto/rand"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"clerksync/internal/testenv"
	"clerksync/store/database"
)

// measured is what one contender reached in one round, or the median of several.
type measured struct {
	rate, refused     float64 // webhooks a second; how many were refused
	cpu               float64 // µs a webhook, of the contender's process, until its event has been sent
	p50, p99, startup float64 // ms
	peak              float64 // MB
}

// contender is a receiver of webhooks.
type contender struct {
	name  string
	sends bool // events
	ready string
	start func(b *testing.B, env []string) *exec.Cmd
}

// BenchmarkIngress posts signed webhooks to clerksync, to the floor, to a plain insert, to the usual receiver in Go and
// to the usual one in Node, one after the other, for several rounds, and prints a table of medians. Each is a process
// of its own, new in each round, with a database of its own on the one that MONGODB_TEST_URI names, or else on the
// embedded one in a process of its own. Run it with -benchtime 1x.
//
// BENCH_CONNECTIONS, BENCH_ROUNDS, BENCH_WEBHOOKS, BENCH_EVENTS_DELAY (how far away the event API is; or "inngest": a
// real server, behind the stub that counts), BENCH_DATABASE_DELAY and BENCH_ONLY (names of contenders) change what is
// measured.
func BenchmarkIngress(b *testing.B) {
	binary := buildClerksync(b)
	setting := func(name, unless string) string { return cmp.Or(os.Getenv("BENCH_"+name), unless) }
	number := func(name, unless string) int {
		n, err := strconv.Atoi(setting(name, unless))
		if err != nil {
			b.Fatal(err)
		}
		return n
	}
	uri := externalDatabase(b, setting("DATABASE_DELAY", "0s"))
	delay, server := setting("EVENTS_DELAY", "0s"), ""
	if delay == "inngest" {
		delay, server = "0s", newInngest(b, 0).URL()
	}
	api := startProcess(b, child(b, "events", "EVENTS_DELAY="+delay, "EVENTS_SERVER="+server), "/health")
	all := contenders(b, binary, api.url)
	if only := setting("ONLY", ""); only != "" {
		all = slices.DeleteFunc(all, func(c contender) bool {
			return !slices.Contains(strings.Split(only, ","), c.name)
		})
	}
	rounds, n := number("ROUNDS", "3"), number("WEBHOOKS", "10000")
	b.ResetTimer()
	for b.Loop() {
		for text := range strings.SplitSeq(setting("CONNECTIONS", "1,8,64,512"), ",") {
			connections, err := strconv.Atoi(text)
			if err != nil {
				b.Fatal(err)
			}
			results := make([][]measured, len(all))
			for range rounds {
				for i, c := range all {
					results[i] = append(results[i], c.measure(b, uri, api.url, connections, n))
				}
			}
			fmt.Printf("\n%d connections, %d rounds of %d webhooks (5 s at the most), event API %s away, database %s "+
				"away\n\n",
				connections, rounds, n, setting("EVENTS_DELAY", "0s"), setting("DATABASE_DELAY", "0s"))
			printTable(all, results)
		}
	}
	b.ReportMetric(0, "ns/op")
}

// externalDatabase returns the URI of a database in a process of its own, behind a proxy if it is to be slow.
func externalDatabase(b *testing.B, delay string) string {
	b.Helper()
	uri := os.Getenv(testenv.MongoURI)
	if uri == "" {
		var err error
		if uri, err = get(startProcess(b, child(b, "database", "DATABASE_DIR="+b.TempDir()), "/").url); err != nil {
			b.Fatal(err)
		}
	}
	d, err := time.ParseDuration(delay)
	if err != nil {
		b.Fatal(err)
	}
	if d == 0 {
		return uri
	}
	u, err := url.Parse(uri)
	if err != nil {
		b.Fatal(err)
	}
	p := testenv.NewProxy(b, u.Host)
	p.Poison(b, "latency", map[string]any{"latency": d.Milliseconds()})
	return "mongodb://" + p.Addr + "/?directConnection=true"
}

func contenders(b *testing.B, binary, api string) []contender {
	b.Helper()
	server := func(name string) func(b *testing.B, env []string) *exec.Cmd {
		return func(b *testing.B, env []string) *exec.Cmd { b.Helper(); return child(b, name, env...) }
	}
	settings := []string{
		"CLERK_WEBHOOK_SIGNING_SECRET=" + testenv.Secret, "INNGEST_BASE_URL=" + api, "INNGEST_EVENT_KEY=bench",
		"INNGEST_SIGNING_KEY=signkey-test-0123456789abcdef", "INNGEST_DEV=0",
	}
	clerksync := func(b *testing.B, env []string) *exec.Cmd {
		b.Helper()
		cmd := exec.Command(binary, "serve")
		cmd.Env = append(settings, env...)
		return cmd
	}
	all := []contender{
		{name: "floor", ready: "/healthz", start: server("floor")},
		{name: "insert", ready: "/healthz", start: server("insert")},
		{
			name: "plain", sends: true, ready: "/healthz", start: func(b *testing.B, env []string) *exec.Cmd {
				return child(b, "plain", append(settings, env...)...)
			},
		},
		{name: "clerksync", sends: true, ready: "/readyz", start: clerksync},
		{name: "embedded", sends: true, ready: "/readyz", start: func(b *testing.B, env []string) *exec.Cmd {
			return clerksync(b, append(env, "MONGODB_URI=embedded:"+filepath.Join(b.TempDir(), "data")))
		}},
	}
	if why := prepareNode(); why != "" {
		fmt.Println("the Node stack is left out:", why)
		return all
	}
	return append(all, contender{
		name: "node", sends: true, ready: "/healthz",
		start: func(_ *testing.B, env []string) *exec.Cmd {
			cmd := exec.Command("node", "server.js")
			cmd.Dir = "node"
			cmd.Env = slices.Concat(settings, []string{"NODE_ENV=production", "PATH=" + os.Getenv("PATH")}, env)
			return cmd
		},
	})
}

// prepareNode installs what bench/node needs, once, or says why not.
func prepareNode() string {
	if _, err := exec.LookPath("npm"); err != nil {
		return "npm is not on PATH"
	}
	if _, err := os.Stat("node/node_modules"); err == nil {
		return ""
	}
	cmd := exec.Command("npm", "ci", "--no-audit", "--no-fund")
	cmd.Dir = "node"
	if out, err := cmd.CombinedOutput(); err != nil {
		_ = os.RemoveAll("node/node_modules") // half of it
		return fmt.Sprintf("npm ci: %v: %s", err, out)
	}
	return ""
}

// warmUp is how many webhooks go before the measured ones.
const warmUp = 300

func (c contender) measure(b *testing.B, uri, api string, connections, n int) measured {
	b.Helper()
	name := "bench_" + strings.ToLower(rand.Text()[:12])
	p := startProcess(b, c.start(b, []string{"MONGODB_URI=" + uri, "MONGODB_DATABASE=" + name}), c.ready)
	defer func() {
		p.stop()
		drop(b, uri, name)
	}()
	count := func() int {
		s, err := get(api + "/count")
		n, err2 := strconv.Atoi(s)
		if err != nil || err2 != nil {
			b.Fatal(err, err2)
		}
		return n
	}
	before := count()
	sent := func(want int) {
		deadline := time.Now().Add(time.Minute)
		for ; c.sends && count() < before+want; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				b.Fatalf("%s has sent %d of %d events\n%s", c.name, count()-before, want, &p.out)
			}
		}
	}
	requests := webhooks(b, p.url, strings.ToLower(rand.Text()[:6]), warmUp+n)
	addr := strings.TrimPrefix(p.url, "http://")
	warm, err := load(addr, connections, requests[:warmUp], time.Minute)
	if err != nil {
		b.Fatalf("%s: %v\n%s", c.name, err, &p.out)
	}
	sent(warm.accepted)
	cpu := p.cpu(b)
	got, err := load(addr, connections, requests[warmUp:], 5*time.Second)
	if err != nil {
		b.Fatalf("%s: %v\n%s", c.name, err, &p.out)
	}
	sent(warm.accepted + got.accepted)
	ms := func(d time.Duration) float64 { return d.Seconds() * 1000 }
	return measured{
		rate: got.rate(), refused: float64(got.refused), cpu: (p.cpu(b) - cpu).Seconds() * 1e6 / float64(got.accepted),
		p50: ms(percentile(got.latencies, 50)), p99: ms(percentile(got.latencies, 99)), startup: ms(p.startup),
		peak: p.peak(b),
	}
}

// drop removes the database of a round.
func drop(b *testing.B, uri, name string) {
	b.Helper()
	db, err := database.Connect(b.Context(), uri, name)
	if err != nil {
		b.Fatal(err)
	}
	if err := db.Drop(b.Context()); err != nil {
		b.Error(err)
	}
	if err := db.Close(b.Context()); err != nil {
		b.Error(err)
	}
}

// printTable writes the medians as Markdown, with the ratios to the floor and to Node.
func printTable(all []contender, results [][]measured) {
	medians := map[string]measured{}
	for i, c := range all {
		m := func(get func(measured) float64) float64 { return median(results[i], get) }
		medians[c.name] = measured{
			rate:    m(func(r measured) float64 { return r.rate }),
			refused: m(func(r measured) float64 { return r.refused }),
			cpu:     m(func(r measured) float64 { return r.cpu }),
			p50:     m(func(r measured) float64 { return r.p50 }),
			p99:     m(func(r measured) float64 { return r.p99 }),
			startup: m(func(r measured) float64 { return r.startup }),
			peak:    m(func(r measured) float64 { return r.peak }),
		}
	}
	fmt.Println("| | webhooks/s | × node | CPU µs | × floor | of node | p50 ms | p99 ms | peak MB | start ms | " +
		"refused |")
	fmt.Println("|---|---|---|---|---|---|---|---|---|---|---|")
	floor, node := medians["floor"], medians["node"]
	for _, c := range all {
		m := medians[c.name]
		ratio := func(a, b float64, format string) string {
			if b == 0 {
				return ""
			}
			return fmt.Sprintf(format, a/b)
		}
		fmt.Printf("| %s | %.0f | %s | %.0f | %s | %s | %.2f | %.2f | %.0f | %.0f | %.0f |\n", c.name, m.rate,
			ratio(m.rate, node.rate, "%.1f"),
			m.cpu, ratio(m.cpu, floor.cpu, "%.2f"), ratio(node.cpu, m.cpu, "1/%.1f"), m.p50, m.p99, m.peak, m.startup,
			m.refused)
	}
}

func median[T any](of []T, get func(T) float64) float64 {
	values := make([]float64, len(of))
	for i, v := range of {
		values[i] = get(v)
	}
	slices.Sort(values)
	return values[len(values)/2]
}
