package e2e_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestMemoryBound: 300 clients that each stream 100 MiB slowly, at the same time, cost less than 96 MiB, and a real
// webhook is accepted meanwhile.
func TestMemoryBound(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("reads /proc")
	}
	w := newWorld(t, options{})
	created, updated, _ := life(t, "user_memory")
	w.deliver(created)
	w.drained()
	before := w.peakMemory()
	const clients = 300
	var wg, begun sync.WaitGroup
	begun.Add(clients)
	chunk := fmt.Sprintf("%x\r\n%s\r\n", 16<<10, strings.Repeat("x", 16<<10))
	codes := make(chan int, clients)
	for range clients {
		wg.Go(func() {
			c := w.dial("POST /webhooks/clerk HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
			defer c.Close()
			_, _ = io.WriteString(c, chunk)
			begun.Done()
			go func() {
				for range 100 << 20 / (16 << 10) {
					if _, err := io.WriteString(c, chunk); err != nil {
						return // it has been answered
					}
					<-time.After(10 * time.Millisecond)
				}
			}()
			codes <- readCode(c)
		})
	}
	begun.Wait()
	start := time.Now()
	w.deliver(updated)
	t.Logf("a real webhook took %v", time.Since(start))
	wg.Wait()
	close(codes)
	count := map[int]int{}
	for code := range codes {
		count[code]++
	}
	after := w.peakMemory()
	t.Logf("peak memory: %d MiB, before %d MiB; answers %v", after>>20, before>>20, count)
	if count[413]+count[503] != clients {
		t.Errorf("got answers %v, want 413 or 503", count)
	}
	if after-before > 96<<20 {
		t.Errorf("peak memory grew by %d MiB, want 96 at the most", (after-before)>>20)
	}
}

// readCode returns the status of the answer, or 0.
func readCode(c net.Conn) int {
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return 0
	}
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return 0
	}
	_ = res.Body.Close()
	return res.StatusCode
}

// peakMemory returns the most memory that the service has had, in bytes.
func (w *world) peakMemory() int {
	w.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", w.service.PID()))
	if err != nil {
		w.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "VmHWM:")
	var kb int
	if _, err := fmt.Sscan(rest, &kb); err != nil {
		w.t.Fatal(err)
	}
	return kb << 10
}
