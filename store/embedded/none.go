//go:build noembedded

package embedded

import (
	"context"
	"errors"
	"log/slog"
)

var errNone = errors.New("this build has no embedded database: use a mongodb:// one, or build without -tags noembedded")

// Server is never there in this build.
type Server struct{}

// Start returns an error.
func Start(context.Context, string, string, *slog.Logger) (*Server, error) { return nil, errNone }

// URI is never called.
func (*Server) URI() string { return "" }

// Close is never called.
func (*Server) Close() error { return errNone }

// IndexIDs is never called.
func (*Server) IndexIDs(context.Context, string) error { return errNone }

// IDs is never called.
func (*Server) IDs(context.Context, string, string, string, string, string, int) (ids, texts []string, _ error) {
	return nil, nil, errNone
}
