package inngest

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/inngest/inngestgo"
	"github.com/inngest/inngestgo/pkg/checkpoint"
)

// TestTurn: nothing is registered while another process has to, or while nobody knows that.
func TestTurn(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		why  string
		err  error
		want int // registrations
	}{
		"its turn":     {want: 1},
		"another's":    {why: "another has others"},
		"nobody knows": {err: errors.New("the database is away")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t)
			f.Start()
			h := newHandler(t, Server{URL: f.URL, SigningKey: key}, t.Output(), done)
			h.o.Turn = func(_ context.Context, functions string) (string, error) {
				if functions == "" {
					t.Error("it does not say which functions")
				}
				return tc.why, tc.err
			}
			if why, err := h.takeTurn(t.Context()); why != tc.why || !errors.Is(err, tc.err) {
				t.Errorf("got %q, %v, want %q, %v", why, err, tc.why, tc.err)
			}
			if got := len(f.registrations); got != tc.want {
				t.Errorf("it was registered %d times, want %d", got, tc.want)
			}
		})
	}
}

// TestLogsNoPassword: the log says which Inngest it is, without a password in its URL.
func TestLogsNoPassword(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	f := newFake(t)
	f.Start()
	h := newHandler(t, Server{URL: strings.Replace(f.URL, "//", "//user:hidden@", 1), SigningKey: key}, &log, done)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		h.KeepRegistered(ctx)
	}()
	<-h.Registered()
	cancel()
	<-ended
	newHandler(t, Server{URL: "http://user:hidden@inngest.example", SigningKey: key}, &log, done)
	for _, server := range []string{f.URL, "http://inngest.example"} {
		if !strings.Contains(log.String(), "inngest="+server) {
			t.Errorf("it does not say %s", server)
		}
	}
	if strings.Contains(log.String(), "hidden") {
		t.Errorf("it shows the password:\n%s", &log)
	}
}

// TestTurns: how often it asks whose turn it is, and that the log says each answer once.
func TestTurns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		h := newHandler(t, Server{URL: "http://127.0.0.1:1", SigningKey: key}, &log, done)
		ctx, cancel := context.WithCancel(t.Context())
		away := errors.New("the database is away")
		answers := []struct {
			after time.Duration // the answer before
			why   string
			err   error
		}{
			{0, "wait", nil},
			{5 * time.Second, "another's", nil},
			{5 * time.Second, "another's", nil},
			{5 * time.Second, "", away},
			{time.Second, "", away},
			{time.Second, "another's", nil},
			{5 * time.Second, "", away},
			{time.Second, "another's", nil}, // and it ends
		}
		n, last := 0, time.Now()
		h.o.Turn = func(context.Context, string) (string, error) {
			a := answers[n]
			if got := time.Since(last); got != a.after {
				t.Errorf("answer %d: it asks after %s, want %s", n, got, a.after)
			}
			last = time.Now()
			if n++; n == len(answers) {
				cancel()
			}
			return a.why, a.err
		}
		h.KeepRegistered(ctx)
		for text, want := range map[string]int{
			"because=wait": 1, "because=another's": 1, "database is away": 2, "\n": 4,
		} {
			if got := strings.Count(log.String(), text); got != want {
				t.Errorf("it says %d times %q, want %d:\n%s", got, text, want, &log)
			}
		}
	})
}

// TestFingerprint: it tells functions apart that Inngest would run for other events or in another way, and not those of
// processes that Inngest reaches at another URL or with another server.
func TestFingerprint(t *testing.T) {
	t.Parallel()
	of := func(origin string, checkpoints bool, retries int, functions ...string) string {
		t.Helper()
		h, err := New(Options{
			Server: Server{URL: "http://127.0.0.1:8288", SigningKey: key, AppID: "app"}, Origin: origin,
			Path: "/api/inngest", MaxBody: maxBody, Log: slog.New(slog.DiscardHandler),
			Register: func(c inngestgo.Client, with bool) error {
				for _, fn := range functions { // ID:EVENT,EVENT
					id, events, _ := strings.Cut(fn, ":")
					o := inngestgo.FunctionOpts{ID: id, Name: "Write", Retries: &retries}
					if with {
						o.Checkpoint = checkpoint.ConfigSafe
					}
					var triggers inngestgo.MultipleTriggers
					for name := range strings.SplitSeq(events, ",") {
						triggers = append(triggers, inngestgo.EventTrigger(name, nil))
					}
					_, err := inngestgo.CreateFunction(c, o, triggers,
						func(context.Context, inngestgo.Input[any]) (any, error) { return nil, nil })
					if err != nil {
						return err
					}
				}
				return nil
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		h.checkpoints.Store(checkpoints)
		sum, err := h.fingerprint(t.Context())
		if err != nil || len(sum) != 16 {
			t.Fatalf("got %q, %v", sum, err)
		}
		return sum
	}
	functions := []string{"a:one", "b:one", "c:two", "d:two", "e:three"}
	first := of("http://a:3000", false, 3, functions...)
	for range 20 { // the SDK has them in random order
		if got := of("http://b:3001", true, 3, functions...); got != first {
			t.Fatalf("the same functions at another URL, with checkpoints: got %s, want %s", got, first)
		}
	}
	for name, got := range map[string]string{
		"one less":       of("http://a:3000", false, 3, functions[1:]...),
		"one more":       of("http://a:3000", false, 3, append(functions, "f:one")...),
		"another event":  of("http://a:3000", false, 3, append(functions[:4:4], "e:two")...),
		"one more event": of("http://a:3000", false, 3, append(functions[:4:4], "e:three,two")...),
		"other retries":  of("http://a:3000", false, 4, functions...),
	} {
		if got == first {
			t.Errorf("%s: got %s, want another text", name, got)
		}
	}
}
