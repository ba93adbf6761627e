package reconcile

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"clerksync/clerk"
	"clerksync/store"
)

const (
	// Newborn is how old a user's id must be before Clerk's 404 counts as a deletion, which is final: Clerk does not
	// promise that a new user can be found by id at once.
	Newborn = 10 * time.Minute
	// minBrake is how many rows the brake always lets a run remove.
	minBrake = 5
)

// absent asks Clerk for the users of a page of rows. The first pass through all pages, counting, counts the users whom
// Clerk's list does not name. Then the brake decides. The second pass, deleting, asks for each of these users alone and
// removes the rows of those whom Clerk does not have.
func (r *Reconcile) absent(ctx context.Context, p Progress) (Progress, error) {
	rows, err := r.Users.IDs(ctx, p.Next, clerk.MaxIDs)
	if err != nil {
		return p, err
	}
	last := len(rows) < clerk.MaxIDs
	if len(rows) > 0 {
		p.Next = rows[len(rows)-1].ID
	}
	rows = slices.DeleteFunc(rows, func(row store.RowID) bool { return !clerk.IsUserID(row.ID) })
	ids := make([]string, len(rows))
	for i, row := range rows {
		ids[i] = row.ID
	}
	named, err := r.API.ListIDs(ctx, ids)
	if err != nil {
		return p, err
	}
	if p.Phase == counting {
		p.Found.Rows += len(rows)
	}
	for _, row := range rows {
		switch mayGo := row.Ours || r.RemoveUnknown; {
		case time.Since(clerk.UserIDMadeAt(row.ID)) < Newborn:
		case p.Phase == deleting && mayGo && !named[row.ID]:
			if err := r.remove(ctx, &p, row); err != nil {
				return p, err
			}
		case p.Phase == deleting:
		case mayGo:
			if p.MayGo++; !named[row.ID] {
				p.Unnamed++
			}
		case !named[row.ID]:
			r.note(&p, Drift{UserID: row.ID, Kind: Unknown})
		}
	}
	if !last {
		return p, nil
	}
	p.Next = ""
	switch {
	case p.Phase == counting && p.Unnamed > 0:
		p.Phase = deleting
		return p, r.brake(p)
	case p.Tier == Full:
		return r.toList(ctx, p)
	}
	p.Phase = done
	return p, nil
}

// most returns how many rows the run may remove.
func (r *Reconcile) most(p Progress) int {
	if r.MaxDelete >= 100 {
		return math.MaxInt
	}
	return max(minBrake, int(math.Ceil(r.MaxDelete/100*float64(p.MayGo))))
}

// brake returns ErrBrake if the run would remove too many rows, or all rows, because that is what happens with the key
// of another instance. It counts only rows that the run is allowed to remove.
func (r *Reconcile) brake(p Progress) error {
	if r.MaxDelete >= 100 || p.Unnamed <= r.most(p) && p.Unnamed < p.MayGo {
		return nil
	}
	return fmt.Errorf("%w: Clerk does not have the users of %d of %d rows, and nothing was removed; "+
		"check that CLERK_SECRET_KEY is of the instance whose users these are, or raise RECONCILE_MAX_DELETE",
		ErrBrake, p.Unnamed, p.MayGo)
}

// remove removes the row of a user if Clerk, asked for this one user, says that there is no such user. It returns
// ErrBrake if the run has removed as many rows as it may.
func (r *Reconcile) remove(ctx context.Context, p *Progress, row store.RowID) error {
	switch _, err := r.API.User(ctx, row.ID); {
	case errors.Is(err, clerk.ErrNotUser): // Clerk has the user, but the answer cannot be read
		p.Found.Failed++
		return nil
	case !errors.Is(err, clerk.ErrNoUser):
		return err
	}
	removed := p.Found.Extra
	if r.RemoveUnknown {
		removed += p.Found.Unknown
	}
	switch _, err := r.Users.Get(ctx, row.ID); {
	case errors.Is(err, store.ErrNotFound): // another process has removed it
		return nil
	case err != nil:
		return err
	case removed >= r.most(*p):
		return fmt.Errorf("%w: more users go while they are counted; %d rows were removed", ErrBrake, removed)
	}
	if !r.DryRun {
		if err := bury(ctx, r.Users, row.ID, string(p.Tier)); err != nil {
			return err
		}
	}
	kind := Extra
	if !row.Ours {
		kind = Unknown
	}
	r.note(p, Drift{UserID: row.ID, Kind: kind})
	return nil
}
