package database_test

import (
	"testing"
	"time"

	"clerksync/internal/testenv"
	"clerksync/store/database"

	"github.com/google/go-cmp/cmp"
)

// TestCheckpoints: what was saved is there, until it is removed.
func TestCheckpoints(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		type state struct {
			N  int       `bson:"n"`
			At time.Time `bson:"at"`
		}
		c := database.NewCheckpoints(db)
		var got state
		if ok, err := c.Load(t.Context(), "x", &got); ok || err != nil {
			t.Errorf("got %v, %v, want nothing", ok, err)
		}
		want := state{2, time.UnixMilli(1767603600000).UTC()}
		for _, s := range []state{{N: 1}, want} {
			if err := c.Save(t.Context(), "x", s); err != nil {
				t.Fatal(err)
			}
		}
		if ok, err := c.Load(t.Context(), "x", &got); !ok || err != nil || !cmp.Equal(want, got) {
			t.Errorf("got %v, %+v, %v, want %+v", ok, got, err, want)
		}
		if err := c.Remove(t.Context(), "x"); err != nil {
			t.Fatal(err)
		}
		if ok, err := c.Load(t.Context(), "x", &got); ok || err != nil {
			t.Errorf("got %v, %v, want nothing", ok, err)
		}
	})
}
