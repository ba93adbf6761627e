package dev

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
)

// maxServerLine bounds what is kept of a line of the server, in bytes.
const maxServerLine = 64 << 10

// serverLog passes on what an Inngest dev server logs: its errors as errors, and what is of no use to a developer as
// debug lines. It takes only the message and the error of a line, because the rest is about the server's inside.
type serverLog struct {
	log  *slog.Logger
	done <-chan struct{} // nothing matters any more
	rest []byte          // of a line without its end
}

// Write never fails.
func (l *serverLog) Write(p []byte) (int, error) {
	l.rest = append(l.rest, p...)
	for {
		line, rest, ended := bytes.Cut(l.rest, []byte("\n"))
		if !ended {
			break
		}
		l.rest = rest
		l.line(bytes.TrimSpace(line))
	}
	if len(l.rest) > maxServerLine {
		l.rest = nil
	}
	return len(p), nil
}

func (l *serverLog) line(line []byte) {
	select {
	case <-l.done:
		return
	default:
	}
	if len(line) == 0 {
		return
	}
	var d struct {
		Level, Msg string
		Error      any
		Err        any
	}
	level := slog.LevelDebug
	switch err := json.Unmarshal(line, &d); {
	case err != nil: // not of its logger, such as a panic
		d.Msg, level = string(line), slog.LevelWarn
	case !strings.EqualFold(d.Level, "error") && !strings.EqualFold(d.Level, "fatal"):
	case strings.Contains(d.Msg, "grpc"): // Versions before 1.18 all want the same ports for it. Nothing here uses it.
	default:
		level = slog.LevelError
	}
	ctx := context.Background() // the server's output has none
	l.log.Log(ctx, level, "the Inngest dev server says", "text", short(d.Msg), "error", short(first(d.Error, d.Err)))
}

// first returns the text of the first value that there is.
func first(values ...any) string {
	for _, v := range values {
		if v != nil {
			return fmt.Sprint(v)
		}
	}
	return ""
}

func short(s string) string { return fmt.Sprintf("%.*s", maxWords, s) }
