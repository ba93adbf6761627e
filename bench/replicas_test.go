package bench_test

import (
	"cmp"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"clerksync/internal/testenv"
	"clerksync/store/database"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"go.mongodb.org/mongo-driver/v2/bson"
)

// replicas is what so many processes reached together in one round, or the median of several.
type replicas struct {
	webhooks, runs         float64 // a second
	webhookCPU, runCPU     float64 // µs each, of all processes
	webhookCalls, runCalls float64 // commands to the database each
	resent                 float64 // events sent again: work that was done twice
}

// BenchmarkReplicas measures 1, 2 and 4 processes of clerksync on one database: webhooks, then runs of
// sync-user-from-clerk for the same users, called as Inngest's executor calls them. Each process has a load of its own,
// of as many connections. It fails if a row is missing or an event is left. Run it with -benchtime 1x.
//
// With the database here, the cores of the machine are the bound, which load, database and processes share: look at
// what one webhook and one run cost. With the database some milliseconds away, waiting is the bound: look at the rate.
//
// BENCH_REPLICAS (how many processes), BENCH_ROUNDS, BENCH_WEBHOOKS (for each process), BENCH_CONNECTIONS (to each
// process) and BENCH_DATABASE_DELAY change what is measured.
func BenchmarkReplicas(b *testing.B) {
	binary := buildClerksync(b)
	number := func(name, unless string) int {
		n, err := strconv.Atoi(cmp.Or(os.Getenv("BENCH_"+name), unless))
		if err != nil {
			b.Fatal(err)
		}
		return n
	}
	rounds, each, connections := number("ROUNDS", "3"), number("WEBHOOKS", "1000"), number("CONNECTIONS", "4")
	counts := replicaCounts(b)
	api := startProcess(b, child(b, "events", "EVENTS_DELAY=0s"), "/health")
	for delay := range strings.SplitSeq(cmp.Or(os.Getenv("BENCH_DATABASE_DELAY"), "0s,5ms"), ",") {
		uri := externalDatabase(b, delay)
		results := make([][]replicas, len(counts))
		for range rounds {
			for i, n := range counts {
				results[i] = append(results[i], measureReplicas(b, binary, uri, api.url, n, each, connections))
			}
		}
		fmt.Printf("\ndatabase %s away, %d webhooks and %d connections for each process, medians of %d rounds\n\n",
			delay, each, connections, rounds)
		printReplicas(counts, results)
	}
	b.ReportMetric(0, "ns/op")
}

// BenchmarkReplicasIdle measures what 1, 2 and 4 processes of clerksync on one database cost while nothing happens. Run
// it with -benchtime 1x; BENCH_REPLICAS is how many processes, BENCH_IDLE for how long.
func BenchmarkReplicasIdle(b *testing.B) {
	binary := buildClerksync(b)
	idle, err := time.ParseDuration(cmp.Or(os.Getenv("BENCH_IDLE"), "2m"))
	if err != nil {
		b.Fatal(err)
	}
	uri := externalDatabase(b, "0s")
	api := startProcess(b, child(b, "events", "EVENTS_DELAY=0s"), "/health")
	fmt.Print("\n| processes | CPU ms/s | commands/s |\n|---|---|---|\n")
	for _, n := range replicaCounts(b) {
		all, _, end := startReplicas(b, binary, uri, n, "INNGEST_DEV=0", "INNGEST_BASE_URL="+api.url,
			"INNGEST_SIGNING_KEY=signkey-test-0123456789abcdef")
		cpuBefore, callsBefore := totals(b, all)
		time.Sleep(idle)
		cpu, calls := totals(b, all)
		fmt.Printf("| %d | %.2f | %.2f |\n", n, (cpu-cpuBefore)/1000/idle.Seconds(),
			(calls-callsBefore)/idle.Seconds())
		end()
	}
	b.ReportMetric(0, "ns/op")
}

// replicaCounts returns how many processes are measured, one number after the other.
func replicaCounts(b *testing.B) (counts []int) {
	b.Helper()
	for text := range strings.SplitSeq(cmp.Or(os.Getenv("BENCH_REPLICAS"), "1,2,4"), ",") {
		n, err := strconv.Atoi(text)
		if err != nil {
			b.Fatal(err)
		}
		counts = append(counts, n)
	}
	return counts
}

// startReplicas starts so many processes on a database of their own, which end removes.
func startReplicas(b *testing.B, binary, uri string, n int, env ...string) (all []*process, name string, end func()) {
	b.Helper()
	name = "bench_" + strings.ToLower(rand.Text()[:12])
	for range n {
		cmd := exec.Command(binary, "serve")
		cmd.Env = append([]string{
			"MONGODB_URI=" + uri, "MONGODB_DATABASE=" + name, "INNGEST_EVENT_KEY=bench", "LOG_LEVEL=warn",
			"CLERK_WEBHOOK_SIGNING_SECRET=" + testenv.Secret, "INBOX_RESEND_AFTER=30m",
		}, env...)
		all = append(all, startProcess(b, cmd, "/readyz"))
	}
	return all, name, func() {
		for _, p := range all {
			p.stop()
		}
		drop(b, uri, name)
	}
}

func measureReplicas(b *testing.B, binary, uri, api string, n, each, connections int) (r replicas) {
	b.Helper()
	all, name, end := startReplicas(b, binary, uri, n, "INNGEST_DEV="+api)
	defer end()
	db := testenv.Connect(b, uri, name)
	used := func(do func() time.Duration) (took time.Duration, cpu, calls float64) {
		cpuBefore, callsBefore := totals(b, all)
		took = do()
		cpu, calls = totals(b, all)
		return took, cpu - cpuBefore, calls - callsBefore
	}
	prefix, total := strings.ToLower(rand.Text()[:6]), float64(n*each)

	took, cpu, calls := used(func() time.Duration { return postToAll(b, all, prefix, each, connections) })
	r.webhooks, r.webhookCPU, r.webhookCalls = total/took.Seconds(), cpu/total, calls/total

	took, cpu, calls = used(func() time.Duration { return runOnAll(b, all, prefix, each, connections) })
	r.runs, r.runCPU, r.runCalls = total/took.Seconds(), cpu/total, calls/total
	checkRows(b, db, n*each)

	for _, p := range all {
		r.resent += metric(b, p, "clerksync_inbox_resent_total")
	}
	return r
}

// postToAll posts so many webhooks to each process, and returns how long the last one took.
func postToAll(b *testing.B, all []*process, prefix string, each, connections int) time.Duration {
	b.Helper()
	requests := make([][][]byte, len(all))
	for i, p := range all {
		requests[i] = webhooks(b, p.url, fmt.Sprint(prefix, i), each)
	}
	var g sync.WaitGroup
	start := time.Now()
	for i, p := range all {
		g.Go(func() {
			got, err := load(strings.TrimPrefix(p.url, "http://"), connections, requests[i], time.Minute)
			if err != nil || got.accepted != each {
				b.Errorf("%d of %d accepted, %v\n%s", got.accepted, each, err, &p.out)
			}
		})
	}
	g.Wait()
	return time.Since(start)
}

// runOnAll runs the function for each user of postToAll. A run goes to another process than its webhook, where there is
// one, as it may behind a load balancer.
func runOnAll(b *testing.B, all []*process, prefix string, each, connections int) time.Duration {
	b.Helper()
	now := time.Now()
	events := make(chan testenv.Event, each*len(all))
	for i := range cap(events) {
		of, user := fmt.Sprint(prefix, i%len(all)), i/len(all)
		var webhook struct {
			Data json.RawMessage `json:"data"`
		}
		if err := json.Unmarshal(event(b, of, user, now), &webhook); err != nil {
			b.Fatal(err)
		}
		events <- testenv.Event{
			ID: fmt.Sprintf("msg_%s%012d", of, user), Name: "clerk/user.created", Data: webhook.Data,
			TS: now.UnixMilli(),
		}
	}
	close(events)
	var g sync.WaitGroup
	start := time.Now()
	for i, p := range all {
		to, err := url.Parse(p.url)
		if err != nil {
			b.Fatal(err)
		}
		proxy := httputil.NewSingleHostReverseProxy(to)
		proxy.Transport = &http.Transport{MaxIdleConnsPerHost: connections}
		e := testenv.Executor{Handler: proxy, AppID: "clerksync", RunID: fmt.Sprint("01JTESTRUN", i)}
		for range connections {
			g.Go(func() {
				for event := range events {
					if err := e.Attempt(b.Context(), b, "sync-user-from-clerk", event); err != nil {
						b.Error(err)
						return
					}
				}
			})
		}
	}
	g.Wait()
	return time.Since(start)
}

// checkRows fails if there are not exactly so many rows, or if an event is left.
func checkRows(b *testing.B, db *database.DB, want int) {
	b.Helper()
	for name, want := range map[string]int{"users": want, "clerksync_inbox": 0} {
		n, err := db.Collection(name).CountDocuments(b.Context(), bson.D{})
		if err != nil || n != int64(want) {
			b.Errorf("%s has %d rows, %v, want %d", name, n, err, want)
		}
	}
}

// totals returns the CPU in µs, and the commands to the database, of all processes since they were started.
func totals(b *testing.B, all []*process) (cpu, calls float64) {
	b.Helper()
	for _, p := range all {
		cpu += p.cpu(b).Seconds() * 1e6
		calls += metric(b, p, "clerksync_database_command_duration_seconds")
	}
	return cpu, calls
}

// metric returns a counter of a process, or how many values a histogram has had, for all labels together.
func metric(b *testing.B, p *process, name string) (sum float64) {
	b.Helper()
	text, err := get(p.url + "/metrics")
	if err != nil {
		b.Fatal(err)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil || families[name] == nil {
		b.Fatalf("no metric %s: %v", name, err)
	}
	for _, m := range families[name].GetMetric() {
		sum += m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
	}
	return sum
}

// printReplicas writes the medians as Markdown, with the ratios to the first line.
func printReplicas(counts []int, results [][]replicas) {
	fmt.Println("| processes | webhooks/s | factor | CPU µs | commands | runs/s | factor | CPU µs | commands | " +
		"sent again |")
	fmt.Println("|---|---|---|---|---|---|---|---|---|---|")
	m := func(i int, get func(replicas) float64) float64 { return median(results[i], get) }
	webhooks, runs := func(r replicas) float64 { return r.webhooks }, func(r replicas) float64 { return r.runs }
	for i, n := range counts {
		fmt.Printf("| %d | %.0f | %.2f | %.0f | %.2f | %.0f | %.2f | %.0f | %.2f | %.0f |\n",
			n, m(i, webhooks), m(i, webhooks)/m(0, webhooks),
			m(i, func(r replicas) float64 { return r.webhookCPU }),
			m(i, func(r replicas) float64 { return r.webhookCalls }),
			m(i, runs), m(i, runs)/m(0, runs),
			m(i, func(r replicas) float64 { return r.runCPU }), m(i, func(r replicas) float64 { return r.runCalls }),
			m(i, func(r replicas) float64 { return r.resent }))
	}
}
