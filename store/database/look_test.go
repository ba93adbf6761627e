package database_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"clerksync/internal/testenv"
	"clerksync/store/database"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// TestLook: a sample has different rows, at most as many and as large as asked for, and says whether it is all.
func TestLook(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		c := db.Collection("people")
		var rows []any
		for i := range 250 {
			row := bson.D{{Key: "_id", Value: int32(i)}, {Key: "text", Value: strings.Repeat("x", 1000)}}
			if i%50 == 0 {
				row = append(row, bson.E{Key: "in", Value: bson.D{{Key: "id", Value: fmt.Sprint("user_", i)}}})
			}
			rows = append(rows, row)
		}
		if _, err := c.InsertMany(t.Context(), rows); err != nil {
			t.Fatal(err)
		}
		for name, tc := range map[string]struct {
			rows, bytes, atLeast, atMost int
			all                          bool
		}{
			"more than there are": {1000, 1 << 20, 250, 250, true},
			"fewer":               {40, 1 << 20, 30, 40, false}, // $sample may choose a row twice
			"bytes":               {1000, 20_000, 15, 25, false},
		} {
			got, all, err := c.Sample(t.Context(), tc.rows, tc.bytes)
			had := map[string]bool{}
			for _, row := range got {
				had[row.Lookup("_id").String()] = true
			}
			if n := len(got); err != nil || n < tc.atLeast || n > tc.atMost || len(had) != n || all != tc.all {
				t.Errorf("%s: got %d rows, %d different, all %v, %v", name, n, len(had), all, err)
			}
		}
		without, err := c.Without(t.Context(), "in.id", 1000, 1<<20)
		if err != nil || len(without) != 245 {
			t.Errorf("without: got %d, %v, want 245", len(without), err)
		}
		infos, listed, err := db.Collections(t.Context())
		if err != nil || listed && !slices.ContainsFunc(infos, func(i database.CollectionInfo) bool {
			return i.Name == "people" && !i.View && !i.Capped && i.Validator == nil
		}) {
			t.Errorf("collections: got %v, %v", infos, err)
		}
	})
}
