package embedded

import (
	"context"
	"fmt"
	"log/slog"
	"path"
	"strings"
)

// warnings passes FerretDB's warnings and errors on. Messages as well as attributes of FerretDB can quote documents,
// which are personal data, so all it tells is the place in FerretDB's source that they come from.
type warnings struct{ to slog.Handler }

func (w warnings) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn && w.to.Enabled(ctx, level)
}

func (w warnings) Handle(ctx context.Context, r slog.Record) error {
	at := r.Source()
	if at == nil || strings.HasSuffix(at.Function, ".logResponse") {
		return nil // a refused command: its client has got the error, and is the one to log it
	}
	out := slog.NewRecord(r.Time, r.Level, "embedded database warned", r.PC)
	out.AddAttrs(slog.String("at", fmt.Sprintf("%s:%d", path.Base(at.Function), at.Line)))
	return w.to.Handle(ctx, out)
}

func (w warnings) WithAttrs([]slog.Attr) slog.Handler { return w }

func (w warnings) WithGroup(string) slog.Handler { return w }
