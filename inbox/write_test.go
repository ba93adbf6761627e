package inbox

import (
	"context"
	"log/slog"
	"testing"

	"clerksync/internal/testenv"

	"github.com/prometheus/client_golang/prometheus"
	"go.mongodb.org/mongo-driver/v2/bson"
)

// endsAt is a gate that ends a context when a command is about to be applied.
type endsAt struct {
	command string
	end     context.CancelFunc
}

func (e *endsAt) Command(name string) testenv.Verdict {
	if name == e.command {
		e.end()
	}
	return testenv.Apply
}

func (e *endsAt) Answered(bson.D) {}

// TestQueuedLeak: what counts as waiting in memory does wait there, also if a put's time is up while it revives another
// event. Else the memory would count as full at some time, and every event would go by the collection.
func TestQueuedLeak(t *testing.T) {
	t.Parallel()
	for range 20 { // chance decided
		ctx, cancel := context.WithCancel(t.Context())
		g := &endsAt{end: cancel}
		b := New(Options{
			DB: testenv.NewMemory().Connect(t, "test", g, nil), Log: slog.New(slog.DiscardHandler),
			Registerer: prometheus.NewRegistry(),
		})
		write := func(ctx context.Context, ids ...string) {
			var puts []*put
			for _, id := range ids {
				puts = append(puts, &put{
					event: Event{ID: id, Name: "clerk/user.created", Data: []byte("{}")}, done: make(chan error, 1),
				})
			}
			b.write(ctx, puts)
		}
		write(t.Context(), "msg_there")
		g.command = "find" // of the revival
		write(ctx, "msg_there", "msg_new")
		waiting := 0
		for len(b.out) > 0 {
			waiting += len(<-b.out)
		}
		if got := int(b.queued.Load()); got != waiting {
			t.Fatalf("%d events count as waiting in memory, and %d do", got, waiting)
		}
	}
}
