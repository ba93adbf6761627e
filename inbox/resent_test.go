package inbox_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"testing"
	"time"

	"clerksync/inbox"
	"clerksync/internal/testenv"

	"github.com/prometheus/client_golang/prometheus"
)

// TestResentLine: after an outage there is not a line for each event that is sent again, but one a minute, with how
// many they were and since when the oldest has waited.
func TestResentLine(t *testing.T) {
	t.Parallel()
	db := testenv.NewMemory().Connect(t, "test", nil, nil)
	var log bytes.Buffer
	reg := prometheus.NewRegistry()
	b := inbox.New(inbox.Options{
		DB: db, Send: (&sender{}).Send, ResendAfter: 100 * time.Millisecond, Handled: func(string) bool { return true },
		Log: slog.New(slog.NewJSONHandler(&log, nil)), Registerer: reg,
	})
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan struct{})
	go func() { defer close(done); b.Run(ctx, 5*time.Second) }()
	before := time.Now().Add(-time.Second)
	put(t, b, names(60)...)
	until(t, "they are sent again", func() bool { return metric(t, reg, "clerksync_inbox_resent_total") >= 150 })
	cancel()
	<-done
	lines, events := 0, 0
	for d := json.NewDecoder(&log); d.More(); {
		var line struct {
			Msg    string
			Level  string
			Events int
			Oldest time.Time
		}
		if err := d.Decode(&line); err != nil {
			t.Fatal(err)
		}
		if line.Level != "WARN" {
			continue
		}
		lines, events = lines+1, events+line.Events
		if line.Oldest.Before(before) || line.Oldest.After(time.Now()) {
			t.Errorf("the oldest has waited since %v, want since this test began: %v", line.Oldest, before)
		}
	}
	// at the start of each minute, of which a machine that is not very slow needs one, and at the end of the process
	if most := 2 + int(time.Since(before)/time.Minute); lines > most {
		t.Errorf("got %d lines, want %d at the most", lines, most)
	}
	if want := int(metric(t, reg, "clerksync_inbox_resent_total")); events != want {
		t.Errorf("the lines tell of %d events, want %d", events, want)
	}
}
