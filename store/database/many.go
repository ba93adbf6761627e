package database

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"golang.org/x/sync/errgroup"
)

// What is done to many rows by _id: in one command, or one by one on FerretDB v1, where bulk updates deadlock, $in
// reads the whole collection, and a failed bulk insert does not say which row failed. Errors are the driver's: Redact
// them.

// singles is how many single operations are in flight where there are no bulk ones, well below what deadlocks FerretDB
// v1.
const singles = 8

// sideBySide does something with each, as many at once as FerretDB v1 takes.
func sideBySide[T any](of []T, do func(T) error) error {
	if len(of) == 1 {
		return do(of[0])
	}
	var g errgroup.Group
	g.SetLimit(singles)
	for _, v := range of {
		g.Go(func() error { return do(v) })
	}
	return g.Wait()
}

// FindMany returns those of the rows that are there, by _id.
func (db *DB) FindMany(ctx context.Context, c *mongo.Collection, ids []string) (map[string]bson.Raw, error) {
	rows := make(map[string]bson.Raw, len(ids))
	if len(ids) == 0 {
		return rows, nil
	}
	if !db.OneProcess && len(ids) > 1 {
		cur, err := c.Find(ctx, byIDs(ids))
		if err != nil {
			return nil, err
		}
		var all []bson.Raw
		if err := cur.All(ctx, &all); err != nil {
			return nil, err
		}
		for _, raw := range all {
			rows[raw.Lookup("_id").StringValue()] = raw // $in with strings finds nothing else
		}
		return rows, nil
	}
	ids = db.thereOf(ctx, c, ids)
	var mu sync.Mutex
	return rows, sideBySide(ids, func(id string) error {
		raw, err := c.FindOne(ctx, ByID(id)).Raw()
		if errors.Is(err, mongo.ErrNoDocuments) {
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		rows[id] = raw
		return err
	})
}

// thereOf returns the ids without those that surely have no row, where the database can tell at less than a read for
// each.
func (db *DB) thereOf(ctx context.Context, c *mongo.Collection, ids []string) []string {
	odd := func(r rune) bool {
		return r != '_' && r != '-' && (r >= utf8.RuneSelf || !unicode.IsLetter(r) && !unicode.IsDigit(r))
	}
	// SQLite orders ids as JSON, where what Clerk's ids do not hold has another place.
	if db.IDs == nil || len(ids) <= singles || slices.ContainsFunc(ids, func(id string) bool { return id == "" || strings.ContainsFunc(id, odd) }) {
		return ids
	}
	first, last := slices.Min(ids), slices.Max(ids)
	limit := 4 * len(ids)
	there, _, err := db.IDs(ctx, c.Name(), "", first[:len(first)-1], last+"~", limit) // the limits themselves are left out
	if err != nil || len(there) == limit {                                            // no database yet, or too far apart
		return ids
	}
	has := make(map[string]bool, len(there))
	for _, id := range there {
		has[id] = true
	}
	return slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return !has[id] })
}

// InsertMany inserts rows with these _ids and returns an error for each that was not inserted.
func (db *DB) InsertMany(ctx context.Context, c *mongo.Collection, ids []string, docs []any) []error {
	errs := make([]error, len(docs))
	if len(docs) == 0 {
		return errs
	}
	_, err := c.InsertMany(ctx, docs, options.InsertMany().SetOrdered(false))
	switch {
	case err == nil:
	case db.OneProcess && len(docs) > 1 && IsDuplicate(err): // it stopped at the first and does not say where
		return db.insertRest(ctx, c, ids, docs)
	default:
		spread(errs, err)
	}
	return errs
}

// insertRest inserts one by one what an insert of many that stopped has left. What that one has written is a duplicate
// now, and equal.
func (db *DB) insertRest(ctx context.Context, c *mongo.Collection, ids []string, docs []any) []error {
	errs := make([]error, len(docs))
	all := make([]int, len(docs))
	for i := range docs {
		all[i] = i
	}
	_ = sideBySide(all, func(i int) error { // each error has its place in errs
		_, errs[i] = c.InsertOne(ctx, docs[i])
		if !IsDuplicate(errs[i]) {
			return nil
		}
		want, err := bson.Marshal(docs[i])
		got, missing := c.FindOne(ctx, ByID(ids[i])).Raw()
		if err == nil && missing == nil && slices.Equal(want, got) {
			errs[i] = nil
		}
		return nil
	})
	return errs
}

// Update is a change of one row.
type Update struct {
	ID     string
	Guard  bson.D // what has to be in the row besides
	Change bson.D
}

// ErrUnmatched says that a row has gone, or is not as the guard of its update wants it.
var ErrUnmatched = errors.New("the row is another by now")

// UpdateMany updates rows and returns an error for each that was not updated, or perhaps not: if the database says of
// many only how many it found, and not which, it is ErrUnmatched for all.
func (db *DB) UpdateMany(ctx context.Context, c *mongo.Collection, updates []Update) []error {
	errs := make([]error, len(updates))
	if len(updates) == 0 {
		return errs
	}
	if db.OneProcess {
		all := make([]int, len(updates))
		for i := range updates {
			all[i] = i
		}
		_ = sideBySide(all, func(i int) error { // each error has its place in errs
			res, err := c.UpdateOne(ctx, ByID(updates[i].ID), updates[i].Change) // the lock of the row is the guard
			if errs[i] = err; err == nil && res.MatchedCount == 0 {
				errs[i] = ErrUnmatched
			}
			return nil
		})
		return errs
	}
	models := make([]mongo.WriteModel, len(updates))
	for i, u := range updates {
		models[i] = mongo.NewUpdateOneModel().SetFilter(append(ByID(u.ID), u.Guard...)).SetUpdate(u.Change)
	}
	res, err := c.BulkWrite(ctx, models, options.BulkWrite().SetOrdered(false))
	failed := spread(errs, err)
	if failed < len(updates) && (res == nil || res.MatchedCount < int64(len(updates)-failed)) {
		for i := range errs {
			if errs[i] == nil {
				errs[i] = ErrUnmatched
			}
		}
	}
	return errs
}

// DeleteMany removes the rows that are there.
func (db *DB) DeleteMany(ctx context.Context, c *mongo.Collection, ids []string) error {
	switch {
	case len(ids) == 0:
		return nil
	case db.OneProcess || len(ids) == 1:
		return sideBySide(ids, func(id string) error { _, err := c.DeleteOne(ctx, ByID(id)); return err })
	}
	_, err := c.DeleteMany(ctx, byIDs(ids))
	return err
}

// spread gives the error of an unordered bulk to those that it is about, and returns how many they are. What no
// majority has acknowledged may be rolled back, whatever else is said of it.
func spread(errs []error, err error) (failed int) {
	var e mongo.BulkWriteException
	switch bulk := errors.As(err, &e); {
	case err == nil:
		return 0
	case bulk && e.WriteConcernError != nil:
		err = e.WriteConcernError
	case bulk && len(e.WriteErrors) > 0:
		for _, we := range e.WriteErrors {
			errs[we.Index] = we
		}
		return len(e.WriteErrors)
	}
	for i := range errs {
		errs[i] = err
	}
	return len(errs)
}

// ByID is the filter for the row with an _id.
func ByID(id string) bson.D { return bson.D{{Key: "_id", Value: id}} }

func byIDs(ids []string) bson.D {
	return bson.D{{Key: "_id", Value: bson.D{{Key: "$in", Value: ids}}}}
}
