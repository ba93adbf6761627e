package bench_test

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"clerksync/internal/inngestserver"
	"clerksync/internal/testenv"
	"clerksync/internal/testenv/inngesttest"
	"clerksync/store"
	"clerksync/store/database"
	"clerksync/store/mapping"

	"github.com/inngest/inngestgo"
	"github.com/inngest/inngestgo/step"
)

// nothing is an app with one function of one step on clerk/user.created, which only counts: what the Inngest server
// itself can do.
func nothing() (http.Handler, error) {
	client, err := inngestgo.NewClient(inngestgo.ClientOpts{
		AppID: "nothing", Dev: new(true), EventKey: new("bench"), APIBaseURL: new(os.Getenv("INNGEST_DEV")),
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return nil, err
	}
	var n atomic.Int64
	_, err = inngestgo.CreateFunction(client, inngestgo.FunctionOpts{ID: "nothing"},
		inngestgo.EventTrigger("clerk/user.created", nil),
		func(ctx context.Context, _ inngestgo.Input[map[string]any]) (any, error) {
			return step.Run(ctx, "count", func(context.Context) (int64, error) { return n.Add(1), nil })
		})
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("/api/inngest", client.Serve())
	mux.HandleFunc("GET /healthz", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /count", func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, n.Load()) })
	return mux, nil
}

// app is what an Inngest server calls.
type app struct {
	*process
	uri, database string
}

// startApp starts one of clerksync, node and nothing beside an Inngest server, with a database of its own.
func startApp(b *testing.B, name, binary, uri string, inngest *inngestserver.Server, env ...string) app {
	b.Helper()
	a := app{uri: uri, database: "bench_" + strings.ToLower(rand.Text()[:12])}
	env = append([]string{
		"CLERK_WEBHOOK_SIGNING_SECRET=" + testenv.Secret, "MONGODB_URI=" + uri, "MONGODB_DATABASE=" + a.database,
		"INNGEST_DEV=" + inngest.URL(), "INNGEST_EVENT_KEY=bench", "INBOX_RESEND_AFTER=30m", "LOG_LEVEL=warn",
	}, env...)
	var cmd *exec.Cmd
	switch name {
	case "clerksync":
		cmd = exec.Command(binary, "serve")
		cmd.Env = env
	case "node":
		cmd = exec.Command("node", "server.js")
		cmd.Dir, cmd.Env = "node", append(env, "NODE_ENV=production", "PATH="+os.Getenv("PATH"))
	default:
		cmd = child(b, name, env...)
	}
	a.process = startProcess(b, cmd, "/healthz")
	if name != "clerksync" { // which registers by itself
		a.register(b)
	}
	for !strings.Contains(functionsOf(b, inngest), a.url) {
		time.Sleep(10 * time.Millisecond)
	}
	return a
}

func (a app) register(b *testing.B) {
	b.Helper()
	req, err := http.NewRequestWithContext(b.Context(), http.MethodPut, a.url+"/api/inngest", nil)
	if err != nil {
		b.Fatal(err)
	}
	res, err := (&http.Client{}).Do(req)
	if err != nil {
		b.Fatal(err)
	}
	defer res.Body.Close()
	if body, _ := io.ReadAll(res.Body); res.StatusCode != http.StatusOK {
		b.Fatalf("%s %s", res.Status, body)
	}
}

// functionsOf returns what the server knows of functions and where they are.
func functionsOf(b *testing.B, inngest *inngestserver.Server) string {
	b.Helper()
	s, err := get(inngest.URL() + "/dev")
	if err != nil {
		b.Fatal(err)
	}
	return strings.ReplaceAll(s, "localhost", "127.0.0.1") // the server's spelling
}

// rows returns a client of the app's database.
func (a app) rows(b *testing.B) *database.DB {
	b.Helper()
	return testenv.Connect(b, a.uri, a.database)
}

func newInngest(b *testing.B, tick time.Duration) *inngestserver.Server {
	b.Helper()
	cmd, err := inngesttest.Find(b.Context(), "")
	if err != nil {
		b.Fatal(err)
	}
	s, err := inngestserver.Start(b.Context(), cmd, inngestserver.Config{Tick: tick})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := s.Kill(); err != nil {
			b.Error(err)
		}
	})
	return s
}

// BenchmarkDrain sends sign-ups through a real Inngest server, one for each app, and measures from the first event
// until the last is a row: clerksync with and without batches and checkpoints, the usual stack in Node, and a function
// of one step that does nothing. Run it with -benchtime 1x; BENCH_EVENTS is how many, BENCH_ROUNDS how often. The table
// has medians; the CPU is the app's and the Inngest server's for each.
func BenchmarkDrain(b *testing.B) {
	binary := buildClerksync(b)
	uri := externalDatabase(b, "0s")
	n, err := strconv.Atoi(cmp.Or(os.Getenv("BENCH_EVENTS"), "5000"))
	if err != nil {
		b.Fatal(err)
	}
	rounds, err := strconv.Atoi(cmp.Or(os.Getenv("BENCH_ROUNDS"), "1"))
	if err != nil {
		b.Fatal(err)
	}
	const noCheckpoints = "clerksync, no checkpoints"
	apps := []struct{ label, name, env string }{
		{"nothing", "nothing", "NONE="},
		{"clerksync", "clerksync", "SYNC_BATCH_SIZE=1"},
		{noCheckpoints, "clerksync", "SYNC_BATCH_SIZE=1"},
		{"clerksync, batches of 100", "clerksync", "SYNC_BATCH_SIZE=100"},
	}
	if why := prepareNode(); why == "" {
		apps = append(apps, struct{ label, name, env string }{"node", "node", "NONE="})
	} else {
		fmt.Println("the Node stack is left out:", why)
	}
	type drained struct{ rate, cpu, inngest float64 }
	results := make([][]drained, len(apps))
	for range rounds {
		for i, c := range apps {
			inngest := newInngest(b, 0)
			server := &process{Process: inngest.Process}
			env := []string{c.env}
			if c.label == noCheckpoints { // they are only for a server on a loopback address
				env = append(env, "INNGEST_DEV="+strings.Replace(inngest.URL(), "127.0.0.1", "0.0.0.0", 1))
			}
			a := startApp(b, c.name, binary, uri, inngest, env...)
			done := a.written(b, c.name, n)
			cpu, serverCPU, start := a.cpu(b), server.cpu(b), time.Now()
			if c.name == "nothing" {
				sendEvents(b, inngest.URL(), n)
			} else if got, err := load(strings.TrimPrefix(a.url, "http://"), 16,
				webhooks(b, a.url, strings.ToLower(rand.Text()[:6]), n), time.Minute); err != nil || got.accepted != n {
				b.Fatalf("%s: %d of %d accepted, %v", c.label, got.accepted, n, err)
			}
			for !done() {
				if time.Since(start) > 10*time.Minute {
					b.Fatalf("%s is not done\n%s", c.label, &a.out)
				}
				time.Sleep(200 * time.Millisecond)
			}
			per := func(d time.Duration) float64 { return d.Seconds() * 1e6 / float64(n) }
			results[i] = append(results[i], drained{
				float64(n) / time.Since(start).Seconds(), per(a.cpu(b) - cpu), per(server.cpu(b) - serverCPU),
			})
			a.stop()
			if err := inngest.Kill(); err != nil {
				b.Fatal(err)
			}
		}
	}
	fmt.Printf("\n%d sign-ups through Inngest, %d rounds\n\n| | events/s | of nothing | × node | CPU µs | Inngest's "+
		"µs |\n|---|---|---|---|---|---|\n", n, rounds)
	rate := func(i int) float64 { return median(results[i], func(d drained) float64 { return d.rate }) }
	for i, c := range apps {
		node := ""
		if last := len(apps) - 1; apps[last].name == "node" {
			node = fmt.Sprintf("%.1f", rate(i)/rate(last))
		}
		fmt.Printf("| %s | %.0f | %.2f | %s | %.0f | %.0f |\n", c.label, rate(i), rate(i)/rate(0), node,
			median(results[i], func(d drained) float64 {
				return d.cpu
			}), median(results[i], func(d drained) float64 { return d.inngest }))
	}
	b.ReportMetric(0, "ns/op")
}

// written returns what tells whether n events are written.
func (a app) written(b *testing.B, name string, n int) func() bool {
	b.Helper()
	if name == "nothing" {
		return func() bool { s, err := get(a.url + "/count"); return err == nil && s == strconv.Itoa(n) }
	}
	db := a.rows(b)
	return func() bool {
		c, err := db.Collection("users").CountDocuments(b.Context(), struct{}{})
		return err == nil && c >= int64(n)
	}
}

// sendEvents gives the server events as the Inngest integration does, 100 in a request.
func sendEvents(b *testing.B, url string, n int) {
	b.Helper()
	for i := 0; i < n; i += 100 {
		var events []map[string]any
		for k := i; k < min(i+100, n); k++ {
			var data map[string]any
			if err := json.Unmarshal(testenv.ClerkUser{
				ID: fmt.Sprintf("user_2drain%d", k), FirstName: "Ada",
				Email: "ada@mail.example",
			}.JSON(), &data); err != nil {
				b.Fatal(err)
			}
			data["public_metadata"] = map[string]string{"bio": strings.Repeat("Notes on the Analytical Engine. ", 36)}
			events = append(events, map[string]any{
				"id": fmt.Sprint("msg_", k), "name": "clerk/user.created", "data": data,
			})
		}
		body, err := json.Marshal(events)
		if err != nil {
			b.Fatal(err)
		}
		res, err := http.Post(url+"/e/bench", "application/json", bytes.NewReader(body))
		if err != nil {
			b.Fatal(err)
		}
		_ = res.Body.Close()
	}
}

// BenchmarkLatency measures from the moment a webhook is sent until its row can be read, at 1, 10 and 100 a second,
// with the Inngest dev server's own tick and with one of 10 ms; and how long the webhook was answered and the event
// sent after. Run it with -benchtime 1x; BENCH_SECONDS is for how long each.
func BenchmarkLatency(b *testing.B) {
	binary := buildClerksync(b)
	uri := externalDatabase(b, "0s")
	seconds, err := strconv.Atoi(cmp.Or(os.Getenv("BENCH_SECONDS"), "20"))
	if err != nil {
		b.Fatal(err)
	}
	fmt.Print("\n| tick | a second | answered p50 ms | row p50 ms | p95 ms | p99 ms |\n|---|---|---|---|---|---|\n")
	for _, tick := range []time.Duration{0, 10 * time.Millisecond} {
		for _, rate := range []int{1, 10, 100} {
			inngest := newInngest(b, tick)
			a := startApp(b, "clerksync", binary, uri, inngest)
			users := store.NewUsers(a.rows(b), mapping.Default())
			hooks := webhooks(b, a.url, strings.ToLower(rand.Text()[:6]), rate*seconds)
			type times struct{ answered, row time.Duration }
			results := make(chan times, len(hooks))
			every := time.NewTicker(time.Second / time.Duration(rate))
			for _, hook := range hooks {
				<-every.C
				go func() {
					start := time.Now()
					_, rest, _ := strings.Cut(string(hook), `"id":"user_`)
					id, _, _ := strings.Cut(rest, `"`)
					t := times{}
					if _, err := load(strings.TrimPrefix(a.url, "http://"), 1, [][]byte{hook},
						time.Minute); err != nil {
						b.Error(err)
					}
					t.answered = time.Since(start)
					for time.Since(start) < time.Minute {
						if _, err := users.Get(b.Context(), "user_"+id); err == nil {
							break
						}
						time.Sleep(2 * time.Millisecond)
					}
					t.row = time.Since(start)
					results <- t
				}()
			}
			var answered, rows []time.Duration
			for range hooks {
				t := <-results
				answered, rows = append(answered, t.answered), append(rows, t.row)
			}
			slices.Sort(answered)
			slices.Sort(rows)
			ms := func(of []time.Duration, p float64) float64 { return percentile(of, p).Seconds() * 1000 }
			label := "default (150 ms)"
			if tick > 0 {
				label = tick.String()
			}
			fmt.Printf("| %s | %d | %.1f | %.0f | %.0f | %.0f |\n", label, rate, ms(answered, 50), ms(rows, 50),
				ms(rows, 95), ms(rows, 99))
			a.stop()
			if err := inngest.Kill(); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(0, "ns/op")
}
