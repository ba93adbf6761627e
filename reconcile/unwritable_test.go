package reconcile_test

import (
	"fmt"
	"testing"

	"clerksync/internal/testenv"
	"clerksync/reconcile"
	"clerksync/store"
	"clerksync/store/database"
	"clerksync/store/mapping"

	"github.com/google/go-cmp/cmp"
)

func withSettings(u testenv.ClerkUser, settings string) testenv.ClerkUser {
	u.Raw = nil
	j := u.JSON()
	u.Raw = fmt.Appendf(nil, `%s,"public_metadata":{"settings":%s}}`, j[:len(j)-1], settings)
	return u
}

// TestRowThatTheDatabaseRefuses: what a user has in the metadata, which users can write themselves, may be what the
// database does not store. A user refused alone in a page was taken for a database that is down, and ended every run at
// that page.
func TestRowThatTheDatabaseRefuses(t *testing.T) {
	t.Parallel()
	testenv.EachDatabase(t, func(t *testing.T, db *database.DB) {
		fake := testenv.NewClerkAPI(t)
		m := mapping.Default()
		m.Fields = append(m.Fields, mapping.Field{Path: "settings", From: "public_metadata.settings"})
		r := backfiller(t, db, fake)
		r.Users = store.NewUsers(db, m)
		people := testenv.People(50)
		fake.Put(people...)
		if _, err := backfill(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		refused, later := people[3], people[45]
		refused.Updated, later.Updated = refused.Updated+1, later.Updated+1
		later.LastName = "Byron"
		fake.Put(withSettings(refused, `{"$id":1}`), later)
		found, drift, err := run(t, r, reconcile.Full)
		want, failed := []string{"stale " + later.ID + " full_name"}, 1
		if !db.OneProcess { // MongoDB stores more than FerretDB v1 does
			want, failed = append([]string{"stale " + refused.ID + " settings"}, want...), 0
		}
		if d := cmp.Diff(want, drift); d != "" || err != nil || found.Failed != failed || found.Users != 50 {
			t.Errorf("got %+v, %v, drift (-want +got):\n%s", found, err, d)
		}
	})
}
