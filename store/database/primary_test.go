package database_test

import (
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"clerksync/internal/testenv"
	"clerksync/store/database"
)

// TestMakePrimaryOfAnother: a server that has taken the port meanwhile is somebody else's, whose replica set stays as
// it is, whether it has a primary or not.
func TestMakePrimaryOfAnother(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first := startMongod(t, dir, "theirs")
	if err := database.MakePrimary(t.Context(), first, "theirs"); err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(t.TempDir(), "copy") // its set knows it by the first one's address: it is no primary
	if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	const want = "another server has taken its port"
	for name, address := range map[string]string{"a primary": first, "no primary": startMongod(t, copied, "theirs")} {
		err := database.MakePrimary(t.Context(), address, "mine")
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", name, err, want)
		}
	}
}

// startMongod starts a server that behaves as a mongod, and returns its address.
func startMongod(t *testing.T, dir, set string) (address string) {
	t.Helper()
	port := strconv.Itoa(testenv.FreePort(t))
	address = net.JoinHostPort("127.0.0.1", port)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		testenv.Mongod([]string{"--dbpath", dir, "--port", port, "--replSet", set}, io.Discard)
	}()
	t.Cleanup(func() {
		if err := database.ShutDown(context.Background(), address); err != nil {
			t.Error(err)
		}
		<-ended
	})
	return address
}
