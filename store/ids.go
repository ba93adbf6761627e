package store

import (
	"context"

	"clerksync/clerk"
)

// afterUserID is behind all of Clerk's ids of users, which begin with clerk.UserIDPrefix.
const afterUserID = "user`"

// Count returns how many rows of Clerk's users there are: those with an id of its form.
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
	Ours bool // the row has a version, so clerksync has written it
}

// IDs returns a page of the ids of rows, in their order: those that begin as Clerk's do, from the one behind after on,
// which is "" for the first page. There are limit of them at the most.
func (s *Users) IDs(ctx context.Context, after string, limit int) ([]RowID, error) {
	ids, versions, err := s.rows.IDs(ctx, "clerk.version", max(after, clerk.UserIDPrefix), afterUserID, limit)
	rows := make([]RowID, len(ids))
	for i, id := range ids {
		rows[i] = RowID{ID: id, Ours: isVersion(versions[i])}
	}
	return rows, err
}
