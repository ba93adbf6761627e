//go:build noembedded

package embedded

import (
	"context"
	"log/slog"
)

// Server is a database that this build has left out.
type Server struct{}

// Start returns ErrLeftOut.
func Start(context.Context, string, string, *slog.Logger) (*Server, error) { return nil, ErrLeftOut }

// URI is there for those who never get a Server, as the other methods are.
func (*Server) URI() string { return "" }

// Close returns ErrLeftOut.
func (*Server) Close() error { return ErrLeftOut }

// IndexIDs returns ErrLeftOut.
func (*Server) IndexIDs(context.Context, string) error { return ErrLeftOut }

// IDs returns ErrLeftOut.
func (*Server) IDs(context.Context, string, string, string, string, string, int) (ids, texts []string, _ error) {
	return nil, nil, ErrLeftOut
}

// Count returns ErrLeftOut.
func (*Server) Count(context.Context, string, string) (int, error) { return 0, ErrLeftOut }
