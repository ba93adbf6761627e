package bench_test

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"clerksync/clerk"
	"clerksync/internal/testenv"
	"clerksync/store"
	"clerksync/store/database"
	"clerksync/store/embedded"
	"clerksync/store/mapping"
)

// BenchmarkBackfill measures 'clerksync backfill', a process of its own, against a fake Clerk API behind a socket:
// users a second, the peak memory of the process, and its rate as a part of what bare inserts of the same rows reach in
// the same run. Then, on the rows that are there by then, 'clerksync reconcile', which finds no drift, and the backfill
// once more. Run it with -benchtime 1x; BENCH_USERS is how many, separated by commas.
func BenchmarkBackfill(b *testing.B) {
	binary := buildClerksync(b)
	counts := os.Getenv("BENCH_USERS")
	if counts == "" {
		counts = "10000,100000"
	}
	for count := range strings.SplitSeq(counts, ",") {
		var n int
		if _, err := fmt.Sscan(count, &n); err != nil {
			b.Fatal(err)
		}
		fake := testenv.NewClerkAPI(b)
		people := testenv.People(n)
		fake.Put(people...)
		b.Run("embedded/"+count, func(b *testing.B) {
			for b.Loop() {
				engine, err := embedded.Start(b.Context(), b.TempDir(), "127.0.0.1:0", slog.New(slog.DiscardHandler))
				if err != nil {
					b.Fatal(err)
				}
				bare := bareInserts(b, testenv.Connect(b, engine.URI(), "bench"), people)
				backfillBench(b, binary, fake, bare, n, "MONGODB_URI=embedded:"+filepath.Join(b.TempDir(), "data"))
				if err := engine.Close(); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("external/"+count, func(b *testing.B) {
			uri := os.Getenv(testenv.MongoURI)
			if uri == "" {
				b.Skipf("%s is not set", testenv.MongoURI)
			}
			for b.Loop() {
				bare := bareInserts(b, testenv.Connect(b, uri, "bare_"+strings.ToLower(rand.Text()[:12])), people)
				name := "bench_" + strings.ToLower(rand.Text()[:12])
				testenv.Connect(b, uri, name) // which drops it at the end
				backfillBench(b, binary, fake, bare, n, "MONGODB_URI="+uri, "MONGODB_DATABASE="+name)
			}
		})
	}
}

// bareInserts inserts the rows of the users, 500 at a time, and nothing else. It returns the users a second.
func bareInserts(b *testing.B, db *database.DB, people []testenv.ClerkUser) float64 {
	b.Helper()
	if err := store.NewUsers(db, mapping.Default()).Setup(b.Context()); err != nil {
		b.Fatal(err)
	}
	start := time.Now()
	for i := 0; i < len(people); i += 500 {
		var rows []any
		for k, p := range people[i:min(i+500, len(people))] {
			u, err := clerk.ParseUser(p.JSON())
			if err != nil {
				b.Fatal(err)
			}
			rows = append(rows, testenv.Row{
				ID: u.ID, Email: u.Email, FullName: u.FullName, ProfilePicture: u.ImageURL,
				Username: fmt.Sprint("person-", i+k),
				Clerk: store.State{
					Version: "1767603600000.1767603600000", CreatedAt: u.CreatedAt.Time(), SyncedAt: start,
					EmailVerified: true,
				},
			})
		}
		if _, err := db.Collection("users").InsertMany(b.Context(), rows); err != nil {
			b.Fatal(err)
		}
	}
	return float64(len(people)) / time.Since(start).Seconds()
}

func backfillBench(b *testing.B, binary string, fake *testenv.ClerkAPI, bare float64, n int, env ...string) {
	b.Helper()
	env = append(env, "CLERK_SECRET_KEY="+testenv.ClerkKey, "CLERK_API_URL="+fake.URL, "CLERK_RATE_SHARE=1")
	for _, run := range []struct{ name, command string }{
		{"first", "backfill"},
		{"reconcile", "reconcile"},
		{"again", "backfill"},
	} {
		if run.name == "again" && n > 10_000 {
			break // minutes of the same
		}
		var out bytes.Buffer
		cmd := exec.Command(binary, run.command)
		cmd.Env, cmd.Stdout, cmd.Stderr = env, &out, &out
		start := time.Now()
		if err := cmd.Start(); err != nil {
			b.Fatal(err)
		}
		peak := watchPeak(b, cmd.Process.Pid)
		if err := cmd.Wait(); err != nil {
			b.Fatalf("%v\n%s", err, &out)
		}
		rate := float64(n) / time.Since(start).Seconds()
		b.ReportMetric(rate, run.name+"-users/s")
		if run.name == "first" {
			b.ReportMetric(rate/bare, "of-bare")
			b.ReportMetric(bare, "bare-users/s")
		}
		b.ReportMetric(<-peak, run.name+"-peak-MB")
	}
	b.ReportMetric(0, "ns/op")
}

// watchPeak returns the peak memory of a process in MB when it has ended.
func watchPeak(b *testing.B, pid int) <-chan float64 {
	b.Helper()
	peak := make(chan float64, 1)
	go func() {
		var last float64
		for {
			kb, err := peakKB(pid)
			if err != nil {
				peak <- last / 1024
				return
			}
			last = kb
			time.Sleep(20 * time.Millisecond)
		}
	}()
	return peak
}
