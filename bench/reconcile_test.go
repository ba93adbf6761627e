package bench_test

import (
	"cmp"
	"crypto/rand"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"

	"clerksync/internal/testenv"
)

// BenchmarkReconcileCost counts what 'clerksync reconcile' needs of Clerk and of the database when nothing differs, by
// the number of users. Run it with -benchtime 1x; BENCH_USERS is how many, separated by commas.
func BenchmarkReconcileCost(b *testing.B) {
	binary := buildClerksync(b)
	u, err := url.Parse(externalDatabase(b, "0s"))
	if err != nil {
		b.Fatal(err)
	}
	proxy := newCommandCounter(b, u.Host)
	fmt.Print("\n| users | requests to Clerk | database commands | CPU µs a user |\n|---|---|---|---|\n")
	for count := range strings.SplitSeq(cmp.Or(os.Getenv("BENCH_USERS"), "1000,10000"), ",") {
		var n int
		if _, err := fmt.Sscan(count, &n); err != nil {
			b.Fatal(err)
		}
		fake := testenv.NewClerkAPI(b)
		fake.Put(testenv.People(n)...)
		name := "bench_" + strings.ToLower(rand.Text()[:12])
		run := func(command string) *exec.Cmd {
			cmd := exec.Command(binary, command)
			cmd.Env = []string{
				"MONGODB_URI=mongodb://" + proxy.addr + "/?directConnection=true", "MONGODB_DATABASE=" + name,
				"CLERK_SECRET_KEY=" + testenv.ClerkKey, "CLERK_API_URL=" + fake.URL, "CLERK_RATE_SHARE=1",
			}
			if out, err := cmd.CombinedOutput(); err != nil {
				b.Fatalf("%v\n%s", err, out)
			}
			return cmd
		}
		run("backfill")
		requests, commands := len(fake.Requests()), proxy.commands.Load()
		cmd := run("reconcile")
		cpu := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
		fmt.Printf("| %d | %d | %d | %.0f |\n", n, len(fake.Requests())-requests, proxy.commands.Load()-commands,
			cpu.Seconds()*1e6/float64(n))
		drop(b, u.String(), name)
	}
	b.ReportMetric(0, "ns/op")
}
