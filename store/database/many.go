package database

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"golang.org/x/sync/errgroup"
)

// This file has the operations on many rows by key. MongoDB does each in one command. On FerretDB v1 bulk updates
// deadlock, $in reads the whole collection, and a failed bulk insert does not say which row failed, so there most
// operations do the rows one by one.

// singles is how many rows are done at the same time on FerretDB v1, well below the number at which it deadlocks.
const singles = 8

// sideBySide calls do with each of 0 to n - 1, at most singles calls at the same time. It returns the first error.
func sideBySide(n int, do func(i int) error) error {
	if n == 1 {
		return do(0)
	}
	var g errgroup.Group
	g.SetLimit(singles)
	for i := range n {
		g.Go(func() error { return do(i) })
	}
	return g.Wait()
}

// FindMany returns those of the rows that exist, by key. If fields are named, it reads only these. Of rows with the
// same key, which there may be if its unique index was dropped, it returns the one that the database finds first, as
// for the app.
func (c *Collection) FindMany(ctx context.Context, ids []string, fields ...string) (map[string]bson.Raw, error) {
	rows := make(map[string]bson.Raw, len(ids))
	if c.key != idField {
		all, err := c.findKeyed(ctx, ids, fields)
		for _, row := range all {
			if id, _ := c.keyOf(row); rows[id] == nil {
				rows[id] = row
			}
		}
		return rows, err
	}
	projection := only(fields)
	// FerretDB v1 reads the whole collection for $in. If it has no index by _id, it does so for each single row too.
	if len(ids) > 1 && !c.db.OneProcess || len(ids) > singles && c.db.engine == nil {
		var all []bson.Raw
		err := c.findAll(ctx, c.byKeys(ids), options.Find().SetProjection(projection), &all)
		for _, raw := range all {
			rows[raw.Lookup("_id").StringValue()] = raw // $in with strings finds only strings
		}
		return rows, err
	}
	ids = c.thereOf(ctx, ids)
	var mu sync.Mutex
	err := sideBySide(len(ids), func(i int) error {
		raw, err := c.FindOne(ctx, ByID(ids[i]), options.FindOne().SetProjection(projection)).Raw()
		if errors.Is(err, mongo.ErrNoDocuments) {
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		rows[ids[i]] = raw
		return err
	})
	return rows, c.failed("read", err)
}

// only returns the projection that reads these fields, or all if there are none.
func only(fields []string) bson.D {
	projection := bson.D{}
	for _, field := range fields {
		projection = append(projection, bson.E{Key: field, Value: 1})
	}
	return projection
}

// thereOf leaves out ids that surely have no row, if an embedded database can say that faster than by a read for each
// id.
func (c *Collection) thereOf(ctx context.Context, ids []string) []string {
	const letters = "_-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	isOdd := func(id string) bool { return id == "" || strings.Trim(id, letters) != "" }
	// SQLite sorts ids as JSON, in which characters that Clerk's ids do not have sort differently.
	if c.db.engine == nil || len(ids) <= singles || slices.ContainsFunc(ids, isOdd) {
		return ids
	}
	first, last := slices.Min(ids), slices.Max(ids)
	limit := 4 * len(ids)
	there, _, err := c.IDs(ctx, "", first[:len(first)-1], last+"~", limit) // IDs leaves out both limits themselves
	// no database yet, or too many other ids between
	if err != nil || len(there) == limit {
		return ids
	}
	has := make(map[string]bool, len(there))
	for _, id := range there {
		has[id] = true
	}
	return slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return !has[id] })
}

// InsertEach inserts rows with these keys and returns one error for each row, nil if it was inserted. IsDuplicate tells
// of the error whether a row with this key, or with this value in a unique index, exists already.
func (c *Collection) InsertEach(ctx context.Context, ids []string, docs []any) []error {
	return c.insertEach(ctx, ids, docs, map[string]bson.Raw{})
}

// InsertOrFind inserts rows as InsertEach does. It also returns the rows that existed already, at least these fields of
// them. A row that was removed meanwhile is not among them.
func (c *Collection) InsertOrFind(ctx context.Context, ids []string, docs []any, fields ...string) (
	there map[string]bson.Raw, errs []error,
) {
	there = map[string]bson.Raw{}
	errs = c.insertEach(ctx, ids, docs, there)
	var again []string
	for i, err := range errs {
		switch {
		case !IsDuplicate(err):
			delete(there, ids[i])
		case there[ids[i]] == nil:
			again = append(again, ids[i])
		}
	}
	found, err := c.FindMany(ctx, again, fields...)
	maps.Copy(there, found)
	for i := range errs {
		if err != nil && IsDuplicate(errs[i]) {
			errs[i] = err
		}
	}
	return there, errs
}

// insertEach does the work of InsertEach, and adds the rows that it has read to there.
func (c *Collection) insertEach(ctx context.Context, ids []string, docs []any, there map[string]bson.Raw) []error {
	errs := make([]error, len(docs))
	if len(docs) == 0 {
		return errs
	}
	_, err := c.InsertMany(ctx, docs, options.InsertMany().SetOrdered(false))
	if !c.db.OneProcess || len(docs) == 1 || !IsDuplicate(err) {
		spread(errs, err)
		return errs
	}
	// FerretDB v1 has stopped at the first row that it refused, and does not say which one that is.
	found, e := c.FindMany(ctx, ids)
	maps.Copy(there, found)
	var rest []int // the places of the rows that do not exist yet
	var restIDs []string
	var restDocs []any
	for i, id := range ids {
		want, noBSON := bson.Marshal(docs[i])
		switch errs[i] = errors.Join(e, noBSON); {
		case errs[i] != nil:
		case found[id] == nil:
			rest, restIDs, restDocs = append(rest, i), append(restIDs, id), append(restDocs, docs[i])
		case !bytes.Equal(want, found[id]): // an equal row was written before the stop
			errs[i] = Redact(err)
		}
	}
	if len(rest) == len(docs) { // a unique index refuses the first of them, and perhaps others
		_ = sideBySide(len(docs), func(i int) error { // each error has its place in errs
			_, err := c.InsertOne(ctx, docs[i])
			errs[i] = Redact(err)
			return nil
		})
		return errs
	}
	// These rows are inserted together again, because one insert for each row takes several times longer.
	for n, err := range c.insertEach(ctx, restIDs, restDocs, there) {
		errs[rest[n]] = err
	}
	return errs
}

// Update is a change of one row.
type Update struct {
	ID     string // the row's key
	Guard  bson.D // matches the row as it was read, under its lock; with another key than _id it has the _id too
	Change bson.D
}

// ErrUnmatched says that a row was not updated, because it is gone or the guard of its update no longer matches.
var ErrUnmatched = errors.New("the row is another by now")

// UpdateEach updates rows and returns one error for each row, nil if it was updated. MongoDB says only how many rows of
// a bulk update matched, and not which. So if some did not match, the error is ErrUnmatched for all rows without
// another error, also for those that were updated. The caller must hold the rows' locks.
func (c *Collection) UpdateEach(ctx context.Context, updates []Update) []error {
	errs := make([]error, len(updates))
	if len(updates) == 0 {
		return errs
	}
	if c.db.OneProcess {
		_ = sideBySide(len(updates), func(i int) error { // each error has its place in errs
			res, err := c.UpdateOne(ctx, c.guarded(updates[i].ID, updates[i].Guard), updates[i].Change)
			if errs[i] = Redact(err); err == nil && res.MatchedCount == 0 {
				errs[i] = ErrUnmatched
			}
			return nil
		})
		return errs
	}
	models := make([]mongo.WriteModel, len(updates))
	for i, u := range updates {
		models[i] = mongo.NewUpdateOneModel().SetFilter(c.guarded(u.ID, u.Guard)).SetUpdate(u.Change)
	}
	res, err := c.BulkWrite(ctx, models, options.BulkWrite().SetOrdered(false))
	failed := spread(errs, err)
	if res == nil || res.MatchedCount < int64(len(updates)-failed) {
		for i := range errs {
			if errs[i] == nil {
				errs[i] = ErrUnmatched
			}
		}
	}
	return errs
}

// DeleteEach removes those of the rows that exist.
func (c *Collection) DeleteEach(ctx context.Context, ids []string) (err error) {
	switch {
	case c.key != idField:
		err = c.deleteKeyed(ctx, ids)
	case c.db.OneProcess || len(ids) <= 1:
		err = sideBySide(len(ids), func(i int) error { _, err := c.DeleteOne(ctx, ByID(ids[i])); return err })
	default:
		_, err = c.DeleteMany(ctx, c.byKeys(ids))
	}
	return c.failed("remove from", err)
}

// spread sets the errors of those rows that the error of an unordered bulk command is about, and returns how many they
// are. If no majority has acknowledged the writes, that is all rows, because each may be rolled back.
func spread(errs []error, err error) (failed int) {
	var e mongo.BulkWriteException
	switch bulk := errors.As(err, &e); {
	case err == nil:
		return 0
	case bulk && e.WriteConcernError != nil:
		err = e.WriteConcernError
	case bulk && len(e.WriteErrors) > 0:
		for _, we := range e.WriteErrors {
			errs[we.Index] = Redact(we)
		}
		return len(e.WriteErrors)
	}
	for i := range errs {
		errs[i] = Redact(err)
	}
	return len(errs)
}
