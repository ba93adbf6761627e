package store

import (
	"context"

	"clerksync/clerk"
)

// afterUserID sorts after all user ids of Clerk, which begin with clerk.UserIDPrefix.
const afterUserID = "user`"

// Count returns how many rows have an id in the form that Clerk gives its users.
func (s *Users) Count(ctx context.Context) (n int, err error) {
	const page = 10_000
	for after := ""; ; {
		rows, err := s.IDs(ctx, after, page)
		if err != nil {
			return 0, err
		}
		for _, r := range rows {
			if clerk.IsUserID(r.ID) {
				n++
			}
		}
		if len(rows) < page {
			return n, nil
		}
		after = rows[page-1].ID
	}
}

// RowID is the id of a row.
type RowID struct {
	ID   string
	Ours bool // clerksync has written the row: it has a version
}

// IDs returns the sorted ids of at most limit rows: those ids that begin as Clerk's do and are greater than after,
// which is "" for the first page.
func (s *Users) IDs(ctx context.Context, after string, limit int) ([]RowID, error) {
	ids, versions, err := s.rows.IDs(ctx, "clerk.version", max(after, clerk.UserIDPrefix), afterUserID, limit)
	rows := make([]RowID, len(ids))
	for i, id := range ids {
		rows[i] = RowID{ID: id, Ours: isVersion(versions[i])}
	}
	return rows, err
}
