package bench_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	children "clerksync/internal/child"
	"clerksync/internal/testenv"
)

// process is a server that is measured.
type process struct {
	*children.Process
	url string
	// startup is the time until it was ready.
	startup time.Duration
	out     bytes.Buffer
}

// startProcess starts a server on a free port, which it is told by PORT, and waits until it answers 200 at a path.
func startProcess(b *testing.B, cmd *exec.Cmd, ready string) *process {
	b.Helper()
	port := testenv.FreePort(b)
	p := &process{url: fmt.Sprint("http://127.0.0.1:", port)}
	cmd.Env = append(cmd.Env, fmt.Sprint("PORT=", port), "HOST=127.0.0.1")
	cmd.Stdout, cmd.Stderr = &p.out, &p.out
	start := time.Now()
	var err error
	if p.Process, err = children.Start(cmd); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(p.stop)
	for time.Since(start) < 30*time.Second {
		if _, err := get(p.url + ready); err == nil {
			p.startup = time.Since(start)
			return p
		}
		time.Sleep(time.Millisecond)
	}
	b.Fatalf("%v does not answer: %s", cmd.Args, &p.out)
	return nil
}

func (p *process) stop() { _ = p.Kill() } // it may have ended

// cpu returns the user and system time that the process has used, in steps of 10 ms.
func (p *process) cpu(b *testing.B) time.Duration {
	b.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.PID()))
	if err != nil {
		b.Fatal(err)
	}
	ticks, err := cpuTicks(string(stat))
	if err != nil {
		b.Fatal(err)
	}
	return time.Duration(ticks) * 10 * time.Millisecond // USER_HZ is 100 on every Linux
}

// cpuTicks reads utime and stime of /proc/PID/stat, proc(5).
func cpuTicks(stat string) (int, error) {
	_, rest, ok := strings.Cut(stat[strings.LastIndex(stat, ")")+1:], " ") // the name may hold anything
	fields := strings.Fields(rest)
	if !ok || len(fields) < 13 {
		return 0, fmt.Errorf("cannot read %q", stat)
	}
	user, err := strconv.Atoi(fields[11])
	if err != nil {
		return 0, err
	}
	system, err := strconv.Atoi(fields[12])
	return user + system, err
}

// peak returns the peak memory of the process in MB.
func (p *process) peak(b *testing.B) float64 {
	b.Helper()
	kb, err := peakKB(p.PID())
	if err != nil {
		b.Fatal(err)
	}
	return kb / 1024
}

// peakKB reads VmHWM. A child's rusage would do too, but begins with the memory of its parent.
func peakKB(pid int) (kb float64, _ error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	_, line, _ := strings.Cut(string(status), "VmHWM:")
	_, err = fmt.Sscan(line, &kb) // a zombie has none
	return kb, err
}

// get returns the body of an answer with the status 200.
func get(url string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	res, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", res.Status, body)
	}
	return string(body), err
}

// buildClerksync builds the binary as the Dockerfile does, but with the embedded database.
func buildClerksync(b *testing.B) string {
	b.Helper()
	binary := filepath.Join(b.TempDir(), "clerksync")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", binary, "../cmd/clerksync")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	return binary
}

// TestCPUTicks holds the reading of /proc/PID/stat.
func TestCPUTicks(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		stat string
		want int
		bad  bool
	}{
		"plain": {
			stat: "12 (node) S 1 12 12 0 -1 4194304 100 0 0 0 250 31 0 0 20 0 11 0 100 1000 200", want: 281,
		},
		"a strange name": {
			stat: "12 (a) b (c) S 1 12 12 0 -1 4194304 100 0 0 0 7 5 0 0 20 0 11 0 100 1000 200", want: 12,
		},
		"something else":  {stat: "12 (a) S 1 2", bad: true},
		"nothing at all":  {bad: true},
		"no number there": {stat: "12 (node) S 1 12 12 0 -1 4194304 100 0 0 0 x 31 0 0", bad: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := cpuTicks(tc.stat)
			if got != tc.want && !tc.bad || (err != nil) != tc.bad {
				t.Errorf("got %d, %v, want %d", got, err, tc.want)
			}
		})
	}
}
