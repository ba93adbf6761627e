package bench_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"clerksync/internal/testenv"
)

// webhooks returns signed user.created webhooks of about 2.5 KB, each of another user, as they go over the wire.
func webhooks(b *testing.B, url, prefix string, n int) [][]byte {
	b.Helper()
	now := time.Now()
	all := make([][]byte, n)
	for i := range all {
		var wire bytes.Buffer
		req := testenv.Signed(b, url+"/webhooks/clerk", testenv.Secret, fmt.Sprintf("msg_%s%012d", prefix, i), now,
			event(b, prefix, i, now))
		if err := req.Write(&wire); err != nil {
			b.Fatal(err)
		}
		all[i] = wire.Bytes()
	}
	return all
}

// event returns the body of a webhook of the nth user.
func event(b testing.TB, prefix string, n int, at time.Time) []byte {
	b.Helper()
	u := testenv.ClerkUser{
		ID: fmt.Sprintf("user_2%s%012d", prefix, n), FirstName: "Ada", LastName: "Lovelace",
		Email:   fmt.Sprintf("%s-%d@mail.example", prefix, n),
		Created: at.UnixMilli(), Updated: at.UnixMilli(),
	}
	var data map[string]any
	if err := json.Unmarshal(u.JSON(), &data); err != nil {
		b.Fatal(err)
	}
	data["public_metadata"] = map[string]string{"bio": strings.Repeat("Notes on the Analytical Engine. ", 36)}
	body, err := json.Marshal(map[string]any{
		"data": data, "event_attributes": map[string]any{
			"http_request": map[string]string{"client_ip": "192.0.2.1", "user_agent": "Mozilla/5.0"},
		},
		"instance_id": testenv.ClerkInstance, "object": "event", "timestamp": at.UnixMilli(), "type": "user.created",
	})
	if err != nil {
		b.Fatal(err)
	}
	return body
}

// answers is what came of a load.
type answers struct {
	accepted, refused int
	took              time.Duration
	latencies         []time.Duration // sorted
}

func (a answers) rate() float64 { return float64(a.accepted) / a.took.Seconds() }

// load posts requests over so many connections at once, each as soon as the one before is answered, until there are no
// more or the time is over. It speaks HTTP by hand: a client's share of two cores should be small.
func load(addr string, connections int, requests [][]byte, limit time.Duration) (answers, error) {
	var next atomic.Int64
	var mu sync.Mutex
	var sum answers
	var first error
	var wg sync.WaitGroup
	start := time.Now()
	for range connections {
		wg.Go(func() {
			var mine answers
			err := post(addr, limit, func() []byte {
				if i := next.Add(1) - 1; i < int64(len(requests)) && time.Since(start) < limit {
					return requests[i]
				}
				return nil
			}, &mine)
			mu.Lock()
			defer mu.Unlock()
			sum.accepted, sum.refused, sum.latencies = sum.accepted+mine.accepted, sum.refused+mine.refused,
				append(sum.latencies, mine.latencies...)
			if first == nil {
				first = err
			}
		})
	}
	wg.Wait()
	sum.took = time.Since(start)
	slices.Sort(sum.latencies)
	return sum, first
}

func post(addr string, limit time.Duration, next func() []byte, a *answers) error {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(limit + 30*time.Second)); err != nil {
		return err
	}
	r := bufio.NewReader(conn)
	for req := next(); req != nil; req = next() {
		start := time.Now()
		if _, err := conn.Write(req); err != nil {
			return err
		}
		code, err := readAnswer(r)
		if err != nil {
			return err
		}
		a.latencies = append(a.latencies, time.Since(start))
		if code/100 == 2 {
			a.accepted++
		} else {
			a.refused++
		}
	}
	return nil
}

// readAnswer reads an HTTP/1.1 answer that has a Content-Length or no body.
func readAnswer(r *bufio.Reader) (code int, _ error) {
	length := 0
	for first := true; ; first = false {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return 0, err
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			_, err = r.Discard(length)
			return code, err
		}
		if first {
			if len(line) < 12 {
				return 0, io.ErrUnexpectedEOF
			}
			if code, err = strconv.Atoi(string(line[9:12])); err != nil {
				return 0, err
			}
			continue
		}
		if name, value, _ := bytes.Cut(line, []byte(":")); bytes.EqualFold(name, []byte("content-length")) {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
				return 0, err
			}
		}
	}
}

// percentile returns the smallest value that so many in a hundred do not exceed.
func percentile(sorted []time.Duration, p float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[max(0, int(math.Ceil(p/100*float64(len(sorted))))-1)]
}

// TestPercentile holds what p50 and p99 mean here.
func TestPercentile(t *testing.T) {
	t.Parallel()
	hundred := make([]time.Duration, 100)
	for i := range hundred {
		hundred[i] = time.Duration(i + 1)
	}
	for name, tc := range map[string]struct {
		of   []time.Duration
		p    float64
		want time.Duration
	}{
		"nothing": {nil, 50, 0}, "one": {hundred[:1], 99, 1}, "half": {hundred, 50, 50}, "p99": {hundred, 99, 99},
		"all": {hundred, 100, 100}, "of ten": {hundred[:10], 99, 10},
	} {
		if got := percentile(tc.of, tc.p); got != tc.want {
			t.Errorf("%s: got %d, want %d", name, got, tc.want)
		}
	}
}
