package store

import (
	"context"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"clerksync/clerk"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"golang.org/x/sync/errgroup"
)

// Outcome is what a write did.
type Outcome string

// The outcomes.
const (
	Created   Outcome = "created"
	Updated   Outcome = "updated"
	Unchanged Outcome = "unchanged" // the row had the same values; it has the newer version now
	Stale     Outcome = "stale"     // the row is newer; nothing was written
	Deleted   Outcome = "deleted"   // the user is deleted, and there is no row
)

// ErrNotFound says that there is no row.
var ErrNotFound = errors.New("no such user")

// TombstoneRetention is how long a deletion is remembered. Clerk can replay a webhook for 90 days.
const TombstoneRetention = 180 * 24 * time.Hour

// Row is what this project keeps of a user in the collection users. Whatever else is in the row is the app's.
type Row struct {
	ID             string `bson:"_id"`
	Email          string `bson:"email,omitempty"` // absent for a phone-only user
	FullName       string `bson:"full_name"`
	ProfilePicture string `bson:"profile_picture"`
	Username       string `bson:"username"`
	Clerk          State  `bson:"clerk"`
}

// State is what the sync itself needs, and Clerk's flags.
type State struct {
	Version       string    `bson:"version"` // see version
	CreatedAt     time.Time `bson:"created_at,omitempty"`
	SyncedAt      time.Time `bson:"synced_at"`
	Banned        bool      `bson:"banned"`
	Locked        bool      `bson:"locked"`
	Deprovisioned bool      `bson:"deprovisioned"`
	EmailVerified bool      `bson:"email_verified"`
}

// When is when an event happened, as far as it tells.
type When struct {
	Clerk   clerk.Millis // by Clerk's clock; 0 where the event has lost that
	Arrived clerk.Millis // when Inngest got it: tells events apart that have no time of Clerk's, and is older than any that has one
}

// Users is the collection users with its tombstones. It is safe for concurrent use.
type Users struct {
	db         *DB
	rows       *mongo.Collection
	tombstones *mongo.Collection
	locks      *Locks // by user id
}

// NewUsers returns the users of db. Call Setup once before the first write.
func NewUsers(db *DB) *Users {
	return &Users{
		db:         db,
		rows:       db.Collection("users"),
		tombstones: db.Collection("clerksync_deleted_users"),
		locks:      db.Locks("users"),
	}
}

// Setup makes the indexes. It can be repeated.
func (s *Users) Setup(ctx context.Context) error {
	username, deletedAt := s.indexes()
	return errors.Join(EnsureIndex(ctx, s.rows, username), EnsureIndex(ctx, s.tombstones, deletedAt))
}

// LackIndexes tells whether Setup has something to do.
func (s *Users) LackIndexes(ctx context.Context) (bool, error) {
	username, deletedAt := s.indexes()
	rows, err := LacksIndex(ctx, s.rows, username)
	if rows || err != nil {
		return rows, err
	}
	return LacksIndex(ctx, s.tombstones, deletedAt)
}

func (s *Users) indexes() (username, deletedAt Index) {
	username = Index{Field: "username", Unique: true}
	deletedAt = Index{Field: "deleted_at"}
	if !s.db.OneProcess { // FerretDB v1 has no TTL indexes, and its unique ones are sparse
		username.Options = options.Index().SetSparse(true) // rows of the app which have no user name yet do not clash
		deletedAt.Options = options.Index().SetExpireAfterSeconds(int32(TombstoneRetention / time.Second))
	}
	return username, deletedAt
}

// Get returns the row of a user, or ErrNotFound.
func (s *Users) Get(ctx context.Context, id string) (Row, error) {
	var r Row
	err := s.rows.FindOne(ctx, byID(id)).Decode(&r)
	if errors.Is(err, mongo.ErrNoDocuments) {
		return Row{}, ErrNotFound
	}
	if err != nil {
		return Row{}, fmt.Errorf("read user %q: %w", id, Redact(err))
	}
	return r, nil
}

// GetMany returns the rows of those users who have one, by id.
func (s *Users) GetMany(ctx context.Context, ids []string) (map[string]Row, error) {
	rows := map[string]Row{}
	if !s.db.OneProcess {
		cur, err := s.rows.Find(ctx, byIDs(ids))
		if err != nil {
			return nil, fmt.Errorf("read users: %w", Redact(err))
		}
		var all []Row
		if err := cur.All(ctx, &all); err != nil {
			return nil, fmt.Errorf("read users: %w", Redact(err))
		}
		for _, r := range all {
			rows[r.ID] = r
		}
		return rows, nil
	}
	var mu sync.Mutex
	return rows, sideBySide(ids, func(id string) error {
		r, err := s.Get(ctx, id)
		if errors.Is(err, ErrNotFound) {
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		rows[id] = r
		return err
	})
}

// sideBySide does something with each, as many at once as FerretDB v1 takes.
func sideBySide[T any](of []T, do func(T) error) error {
	var g errgroup.Group
	g.SetLimit(singles)
	for _, v := range of {
		g.Go(func() error { return do(v) })
	}
	return g.Wait()
}

// readIDs returns the ids of the rows that filter finds.
func readIDs(ctx context.Context, c *mongo.Collection, filter bson.D) (map[string]bool, error) {
	cur, err := c.Find(ctx, filter)
	if err != nil {
		return nil, err
	}
	var all []struct {
		ID string `bson:"_id"`
	}
	if err := cur.All(ctx, &all); err != nil {
		return nil, err
	}
	ids := make(map[string]bool, len(all))
	for _, d := range all {
		ids[d.ID] = true
	}
	return ids, nil
}

// IsDeleted tells whether the user has a tombstone.
func (s *Users) IsDeleted(ctx context.Context, id string) (bool, error) {
	err := s.tombstones.FindOne(ctx, byID(id)).Err()
	if errors.Is(err, mongo.ErrNoDocuments) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for the tombstone of user %q: %w", id, Redact(err))
	}
	return true, nil
}

// Apply writes what Clerk said of a user, unless the row is newer or the user is deleted. It may be repeated, and
// called in any order: the rows end at the newest version.
//
// The rules, docs/adr/0001-version-rule.md and 0002-tombstones.md: a version is the newest time anywhere in the user and then the
// event's time; equal is applied again, older is stale. A tombstone is looked for before a row is made and after every write, so
// that a deletion in between removes the row, here or in the deleter.
func (s *Users) Apply(ctx context.Context, u clerk.User, at When) (Outcome, error) {
	defer s.locks.Lock(u.ID)()
	return s.applyLocked(ctx, u, at)
}

func (s *Users) applyLocked(ctx context.Context, u clerk.User, at When) (Outcome, error) {
	for range 8 { // more lost races than that is no race
		o, err := s.apply(ctx, u, at)
		if !errors.Is(err, errRaced) {
			return o, err
		}
	}
	return "", fmt.Errorf("write user %q: %w eight times", u.ID, errRaced)
}

// errRefused says that no user name helps. The last of them is nobody else's, so it is hardly the name.
var errRefused = errors.New("a unique index refuses the row whatever its user name: drop a unique index of the app's on another field, such as email")

// errRaced says that another process changed the row between the read and the write.
var errRaced = errors.New("another process wrote the row")

func (s *Users) apply(ctx context.Context, u clerk.User, at When) (Outcome, error) {
	old, err := s.Get(ctx, u.ID)
	row := newRow(u, at)
	var outcome Outcome
	switch {
	case errors.Is(err, ErrNotFound): // a dead user's row is not to be seen even for a moment
		if dead, err := s.IsDeleted(ctx, u.ID); dead || err != nil {
			return Deleted, err
		}
		outcome, err = Created, s.insert(ctx, row, names(u))
	case err == nil && old.Clerk.Version > row.Clerk.Version:
		outcome = Stale
	case err == nil:
		outcome, err = s.update(ctx, old, row, u)
	}
	if err != nil && !errors.Is(err, errRefused) {
		return "", err
	}
	if dead, err := s.removeIfDead(ctx, u.ID); dead || err != nil {
		return Deleted, err
	}
	return outcome, err
}

// Delete removes the user for ever. The tombstone comes first: from then on no write can end with a row.
func (s *Users) Delete(ctx context.Context, id string) (Outcome, error) {
	defer s.locks.Lock(id)()
	return s.delete(ctx, id)
}

func (s *Users) delete(ctx context.Context, id string) (Outcome, error) {
	_, err := s.tombstones.InsertOne(ctx, tombstone(id))
	if err != nil && !IsDuplicate(err) {
		return "", fmt.Errorf("write the tombstone of user %q: %w", id, Redact(err))
	}
	return Deleted, s.remove(ctx, id)
}

// removeIfDead looks for the tombstone and removes the row if there is one: a writer that died between its write and this
// look leaves such a row.
func (s *Users) removeIfDead(ctx context.Context, id string) (bool, error) {
	if dead, err := s.IsDeleted(ctx, id); !dead || err != nil {
		return false, err
	}
	return true, s.remove(ctx, id)
}

func (s *Users) remove(ctx context.Context, id string) error {
	if _, err := s.rows.DeleteOne(ctx, byID(id)); err != nil {
		return fmt.Errorf("remove user %q: %w", id, Redact(err))
	}
	return nil
}

// insert writes a new row under the first of the names that is free.
func (s *Users) insert(ctx context.Context, r Row, names []string) error {
	for _, r.Username = range names {
		_, err := s.rows.InsertOne(ctx, r)
		if err == nil {
			return nil
		}
		if !IsDuplicate(err) {
			return fmt.Errorf("insert user %q: %w", r.ID, Redact(err))
		}
		// Either the row is there by now, or the name is another user's.
		if _, err := s.Get(ctx, r.ID); !errors.Is(err, ErrNotFound) {
			return errors.Join(errRaced, err)
		}
	}
	return fmt.Errorf("insert user %q: %w", r.ID, errRefused)
}

// update brings a row to a version that is not older. It touches only our own fields.
func (s *Users) update(ctx context.Context, old, r Row, u clerk.User) (Outcome, error) {
	filter := s.guard(old, r)
	candidates := []string{old.Username} // given once and kept
	if u.Username != "" || old.Username == "" {
		candidates = names(u)
	}
	for _, r.Username = range candidates {
		res, err := s.rows.UpdateOne(ctx, filter, changes(r))
		switch {
		case IsDuplicate(err):
			continue
		case err != nil:
			return "", fmt.Errorf("update user %q: %w", r.ID, Redact(err))
		case res.MatchedCount == 0:
			return "", errRaced
		case same(old, r):
			return Unchanged, nil
		}
		return Updated, nil
	}
	return "", fmt.Errorf("update user %q: %w", r.ID, errRefused)
}

// guard is the filter of the update that brings a row from old to r. The version in it protects several processes from each other.
func (s *Users) guard(old, r Row) bson.D {
	switch {
	case s.db.OneProcess:
		return byID(r.ID)
	case old.Clerk.Version == "": // a row that the app made
		return append(byID(r.ID), bson.E{Key: "clerk.version", Value: bson.D{{Key: "$exists", Value: false}}})
	}
	return append(byID(r.ID), bson.E{Key: "clerk.version", Value: bson.D{{Key: "$lte", Value: r.Clerk.Version}}})
}

func changes(r Row) bson.D {
	set := bson.D{
		{Key: "full_name", Value: r.FullName},
		{Key: "profile_picture", Value: r.ProfilePicture},
		{Key: "username", Value: r.Username},
		{Key: "clerk", Value: r.Clerk},
	}
	if r.Email == "" {
		return bson.D{{Key: "$set", Value: set}, {Key: "$unset", Value: bson.D{{Key: "email", Value: ""}}}}
	}
	return bson.D{{Key: "$set", Value: append(set, bson.E{Key: "email", Value: r.Email})}}
}

// same tells whether two rows differ only in when they were written.
func same(a, b Row) bool {
	if !a.Clerk.CreatedAt.Equal(b.Clerk.CreatedAt) {
		return false
	}
	a.Clerk.Version, a.Clerk.CreatedAt, a.Clerk.SyncedAt = b.Clerk.Version, b.Clerk.CreatedAt, b.Clerk.SyncedAt
	return a == b
}

func newRow(u clerk.User, at When) Row {
	return Row{
		ID:             u.ID,
		Email:          u.Email,
		FullName:       u.FullName,
		ProfilePicture: u.ImageURL,
		Clerk: State{
			Version:       version(u.ChangedAt, at),
			CreatedAt:     u.CreatedAt.Time(),
			SyncedAt:      time.Now().UTC().Truncate(time.Millisecond),
			Banned:        u.Banned,
			Locked:        u.Locked,
			Deprovisioned: u.Deprovisioned,
			EmailVerified: u.EmailVerified,
		},
	}
}

// version puts the times of the version rule into one string that sorts as they do, so that one comparison in a filter can guard
// a write.
func version(changed clerk.Millis, at When) string {
	v := fmt.Sprintf("%013d.%013d", changed, at.Clerk)
	if at.Clerk == 0 {
		v += fmt.Sprintf(".%013d", at.Arrived)
	}
	return v
}

// names returns the user names that a user may get, best first: Clerk's own, else the local part of the e-mail address, else one
// made of the id; each followed by the same with suffixes that depend on the id alone, so that a retry finds the same name.
func names(u clerk.User) []string {
	local, _, _ := strings.Cut(u.Email, "@")
	sum := sha256.Sum256([]byte(u.ID))
	h := strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:]))
	short, long := h[:6], h[:26] // 30 bits; 130 bits, which do not meet
	base := u.Username
	if base == "" {
		base = local
	}
	if base == "" {
		return []string{"user-" + h[:10], "user-" + long}
	}
	return []string{base, base + "-" + short, base + "-" + long}
}

func tombstone(id string) bson.D {
	return bson.D{{Key: "_id", Value: id}, {Key: "deleted_at", Value: time.Now()}}
}

func byID(id string) bson.D { return bson.D{{Key: "_id", Value: id}} }

func byIDs(ids []string) bson.D {
	return bson.D{{Key: "_id", Value: bson.D{{Key: "$in", Value: ids}}}}
}
