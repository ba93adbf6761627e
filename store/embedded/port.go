//go:build !noembedded

package embedded

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"strings"

	"clerksync/internal/textfile"
)

const (
	// firstPort is the port beside MongoDB's own, which a developer's MongoDB may have.
	firstPort = 27018
	// ports is how many ports are tried, from the first on.
	ports = 100
	// portFile holds the port that the folder's server had, for connection strings that other programs keep. uriFile
	// does not tell it: a command that has the folder for a while takes any port.
	portFile = "clerksync.port"
)

// keptAddress returns the address at which the folder's server was the last time, if that is free, or else the first
// free one from the port first on, or else any free one.
func (f *folder) keptAddress(ctx context.Context, first int) string {
	text, _ := textfile.Read(filepath.Join(f.path, portFile), textfile.MaxKept) // without it the folder had none
	port, err := strconv.ParseUint(strings.TrimSpace(text), 10, 16)
	if addr := address(int(port)); err == nil && port > 0 && tryListen(ctx, addr) == nil {
		return addr
	}
	for port := range ports {
		if addr := address(first + port); tryListen(ctx, addr) == nil {
			return addr
		}
	}
	return address(0)
}

// keep writes down the port of an address, which is none if any port would have done.
func (f *folder) keep(addr string) error {
	_, port, err := net.SplitHostPort(addr)
	if err != nil || port == "0" {
		return err
	}
	return f.write(portFile, port)
}

func address(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// tryListen returns nil if a server could listen on the address, else ErrPort with the reason.
func tryListen(ctx context.Context, addr string) error {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrPort, err)
	}
	return l.Close()
}
