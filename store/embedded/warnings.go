package embedded

import (
	"context"
	"fmt"
	"log/slog"
	"path"
	"strings"
	"syscall"
)

// warnings passes FerretDB's warnings and errors on. Messages as well as attributes of FerretDB can quote documents,
// which are personal data, so all it tells is the place in FerretDB's source that they come from.
type warnings struct{ to slog.Handler }

func (w warnings) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn && w.to.Enabled(ctx, level)
}

func (w warnings) Handle(ctx context.Context, r slog.Record) error {
	at := r.Source()
	switch {
	case at == nil || strings.HasSuffix(at.Function, ".logResponse"):
		return nil // a refused command: its client has got the error, and is the one to log it
	case hungUp(r):
		return nil
	}
	out := slog.NewRecord(r.Time, r.Level, "embedded database warned", r.PC)
	out.AddAttrs(slog.String("at", fmt.Sprintf("%s:%d", path.Base(at.Function), at.Line)))
	return w.to.Handle(ctx, out)
}

// hungUp tells whether a client has closed its connection while it was being answered, as the driver does when a
// context ends.
func hungUp(r slog.Record) (yes bool) {
	r.Attrs(func(a slog.Attr) bool {
		err := a.Value.String()
		yes = strings.HasSuffix(err, syscall.EPIPE.Error()) || strings.HasSuffix(err, syscall.ECONNRESET.Error())
		return !yes
	})
	return yes
}

func (w warnings) WithAttrs([]slog.Attr) slog.Handler { return w }

func (w warnings) WithGroup(string) slog.Handler { return w }
