package clerk

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

type transport func(*http.Request) (*http.Response, error)

func (t transport) RoundTrip(r *http.Request) (*http.Response, error) { return t(r) }

// TestShare: no ten seconds see more requests than the share of Clerk's limit, neither the first ones nor those after a
// rest.
func TestShare(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, err := NewAPI(APIOptions{SecretKey: "sk_test_x", Share: 0.5})
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		var asked []time.Duration
		a.client.Transport = transport(func(*http.Request) (*http.Response, error) {
			asked = append(asked, time.Since(start))
			return &http.Response{
				StatusCode: http.StatusOK,
				Body:       io.NopCloser(strings.NewReader(`{"total_count":1}`)),
			}, nil
		})
		for range 100 {
			if _, err := a.Count(t.Context()); err != nil {
				t.Fatal(err)
			}
			if len(asked) == 60 {
				time.Sleep(15 * time.Second)
			}
		}
		for i, from := range append([]time.Duration{0}, asked...) {
			n := 0
			for _, at := range asked {
				if at >= from && at < from+10*time.Second {
					n++
				}
			}
			if n > 50 {
				t.Fatalf("%d requests in ten seconds, from %v on (%d), want 50", n, from, i)
			}
		}
		if all := asked[99] - 15*time.Second; all > 20200*time.Millisecond {
			t.Errorf("100 requests took %v, which is less than the share", all)
		}
	})
}
