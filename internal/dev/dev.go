// Package dev does the work of 'clerksync dev' and 'clerksync send', which only parse and print: it makes sample
// webhooks, plays the demo, tells what becomes of events, finds the running 'dev', reads an app's files of settings,
// and starts an Inngest dev server.
package dev

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"log/slog"
	"net"
	"strconv"

	"clerksync/internal/inngestserver"
)

// Folder holds the embedded database of 'clerksync dev', and says where it runs.
const Folder = "data"

// MakeSecret returns a new signing secret.
func MakeSecret() string {
	key := make([]byte, 24) // as long as Clerk's
	_, _ = rand.Read(key)   // never fails
	return "whsec_" + base64.StdEncoding.EncodeToString(key)
}

// ports is how many ports are tried from the first on.
const ports = 100

// FreePort returns the first port, from the given one on, on which a server could listen on the host, or 0, which is
// any free one. It passes over one that a server of all addresses has, such as Next.js on 3000: macOS would let both
// have it.
func FreePort(ctx context.Context, host string, first int) string {
	for port := first; port < first+ports; port++ {
		if p := strconv.Itoa(port); Free(ctx, net.JoinHostPort(host, p)) && Free(ctx, ":"+p) {
			return p
		}
	}
	return "0"
}

// Free tells whether a server could listen on the address.
func Free(ctx context.Context, addr string) bool {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	return err == nil && l.Close() == nil
}

// StartInngest finds or builds an Inngest dev server and starts it, on its usual port, or on any free port if that is
// taken. Its errors go to log until ctx ends: then it only misses the service, which ends before it.
func StartInngest(
	ctx context.Context, environ []string, log *slog.Logger, say func(string, ...any),
) (*inngestserver.Server, error) {
	cmd, err := inngestserver.Find(ctx, inngestserver.Options{
		Environ: environ, Progress: func(line string) { say("%s", line) },
	})
	if err != nil {
		return nil, err
	}
	port := reserve(ctx, 8288)
	say("starting an Inngest dev server (%s)", cmd.Source)
	output := &serverLog{log: log, done: ctx.Done()}
	return inngestserver.Start(ctx, cmd, inngestserver.Config{Port: port, Output: output})
}

// reserve returns the port if nothing on this machine has it, and 0 otherwise. Until ctx ends, another reserve gets 0.
// That somebody could listen on the port is not enough: of two processes that start a server at the same time, the
// server of one would end, and that process would take the other's server for its own. So the port for UDP, which the
// server does not use, is kept as a mark.
func reserve(ctx context.Context, port int) int {
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	mark, err := (&net.ListenConfig{}).ListenPacket(ctx, "udp", address)
	if err != nil {
		return 0
	}
	context.AfterFunc(ctx, func() { _ = mark.Close() })
	if !Free(ctx, address) {
		return 0
	}
	return port
}
