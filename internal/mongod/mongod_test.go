package mongod_test

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"clerksync/internal/mongod"
	"clerksync/internal/testenv"
	"clerksync/store/database"
)

// TestRealMongod: a real mongod starts as a replica set of one, ends when it is asked to, and starts again on another
// port with its rows. What 'dev' makes of a mongod, with a program that behaves as one does, is in
// cmd/clerksync/testdata/script/dev-mongod.txtar.
func TestRealMongod(t *testing.T) {
	t.Parallel()
	const env = "CLERKSYNC_TEST_MONGOD"
	path := os.Getenv(env)
	if path == "" {
		t.Skipf("%s names no mongod", env)
	}
	bin := t.TempDir()
	if err := os.Symlink(path, filepath.Join(bin, "mongod")); err != nil {
		t.Fatal(err)
	}
	program, err := mongod.Find(t.Context(), []string{"PATH=" + bin})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("version %s", program.Version)
	dir := filepath.Join(t.TempDir(), "database")
	for round := range 3 {
		if got, want := mongod.Holds(dir), round > 0; got != want {
			t.Errorf("round %d: it holds a database: got %v, want %v", round, got, want)
		}
		port := strconv.Itoa(testenv.FreePort(t))
		s, err := mongod.Start(t.Context(), program, dir, port)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Kill() })
		if got := mongod.KeptPort(dir); got != port {
			t.Errorf("got the port %s, want %s", got, port)
		}
		if _, err := mongod.Start(t.Context(), program, dir, strconv.Itoa(testenv.FreePort(t))); err == nil {
			t.Error("another one starts in the same folder")
		}
		db, err := database.Connect(t.Context(), s.URI("app"), "app")
		if err != nil {
			t.Fatal(err)
		}
		checkpoints := database.NewCheckpoints(db)
		saved := 0
		there, err := checkpoints.Load(t.Context(), "round", &saved)
		if there != (round > 0) || saved != round || err != nil {
			t.Errorf("got what was saved in round %d: %v %v, want %d", saved, there, err, round)
		}
		if server, err := db.Inspect(t.Context()); server.Kind != database.Replicated || err != nil {
			t.Errorf("got %+v %v, want a replica set", server, err)
		}
		if err := checkpoints.Save(t.Context(), "round", round+1); err != nil {
			t.Error(err)
		}
		if err := db.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
		if !s.State().Success() {
			t.Errorf("it did not end by itself: %v", s.State())
		}
	}
}
