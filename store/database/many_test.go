package database

import (
	"testing"

	"go.mongodb.org/mongo-driver/v2/mongo"
)

// TestUnacknowledgedIsTakenForDuplicate: of a bulk that no majority had acknowledged, and in which one row was there
// already, all rows counted as duplicates: a tombstone that may be rolled back was taken for written.
func TestUnacknowledgedIsTakenForDuplicate(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 2} {
		errs := make([]error, n)
		spread(errs, mongo.BulkWriteException{
			WriteConcernError: &mongo.WriteConcernError{Code: 64, Name: "WriteConcernFailed"},
			WriteErrors:       []mongo.BulkWriteError{{WriteError: mongo.WriteError{Index: n - 1, Code: 11000}}},
		})
		for i, err := range errs {
			if err == nil || IsDuplicate(err) {
				t.Errorf("%d of %d: got %v, want that it is not acknowledged", i, n, err)
			}
		}
	}
}
