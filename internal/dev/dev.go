// Package dev does the work of 'clerksync dev' and 'clerksync send', which only parse and print: it makes sample
// webhooks, plays the demo, keeps a signing secret in the developer's folder, and starts an Inngest dev server.
package dev

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"

	"clerksync/internal/inngestserver"
)

// Folder holds the embedded database of 'clerksync dev' and its signing secret.
const Folder = "data"

// Secret returns the signing secret in Folder. The error is fs.ErrNotExist if there is none.
func Secret() (string, error) {
	b, err := os.ReadFile(secretFile())
	secret := strings.TrimSpace(string(b))
	if secret == "" && err == nil { // the process that made the file was killed
		err = fs.ErrNotExist
	}
	return secret, err
}

func secretFile() string { return filepath.Join(Folder, "signing-secret") }

// MakeSecret returns the signing secret in Folder, where 'clerksync send' finds it. It makes one if there is none.
func MakeSecret() (string, error) {
	secret, err := Secret()
	if !errors.Is(err, fs.ErrNotExist) {
		return secret, err
	}
	key := make([]byte, 24) // as long as Clerk's
	_, _ = rand.Read(key)   // never fails
	secret = "whsec_" + base64.StdEncoding.EncodeToString(key)
	if err := os.MkdirAll(Folder, 0o700); err != nil {
		return "", err
	}
	return secret, os.WriteFile(secretFile(), []byte(secret+"\n"), 0o600)
}

// Free tells whether a server could listen on the address.
func Free(ctx context.Context, addr string) bool {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	return err == nil && l.Close() == nil
}

// StartInngest finds or builds an Inngest dev server and starts it, on its usual port, or on any free port if that is
// taken.
func StartInngest(
	ctx context.Context, environ []string, output io.Writer, say func(string, ...any),
) (*inngestserver.Server, error) {
	cmd, err := inngestserver.Find(ctx, inngestserver.Options{
		Environ: environ, Progress: func(line string) { say("%s", line) },
	})
	if err != nil {
		return nil, err
	}
	port := 8288
	if !Free(ctx, "127.0.0.1:8288") {
		port = 0
	}
	say("starting the Inngest dev server (%s)", cmd.Source)
	return inngestserver.Start(ctx, cmd, inngestserver.Config{Port: port, Output: output})
}
