package database

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// Collection is a collection whose rows have texts as _id, or in another field that is their key, see KeyedBy. Its own
// methods, and the functions below that take one, work on every database, and their errors are redacted. The methods of
// the embedded driver's collection are only for operations that all databases do in the same way.
type Collection struct {
	*mongo.Collection
	db    *DB
	locks *locks
	key   string // "_id", or the path of the field that KeyedBy named
}

// Collection returns a collection of the database.
func (db *DB) Collection(name string) *Collection {
	l, _ := db.locks.LoadOrStore(name, new(locks))
	return &Collection{db.Database.Collection(name), db, l.(*locks), idField}
}

// LockedWith returns the collection with the locks of another one, for two collections whose rows are written together.
func (c *Collection) LockedWith(other *Collection) *Collection {
	return &Collection{c.Collection, c.db, other.locks, c.key}
}

// Ingress returns the collection with the connections that are reserved for webhooks, see DB.Ingress.
func (c *Collection) Ingress() *Collection {
	if c.db.Ingress == nil {
		return c
	}
	return &Collection{c.db.Ingress.Collection(c.Name()), c.db, c.locks, c.key}
}

// locks are the locks of a collection's rows within this process. They keep rows correct if the database's updates are
// not atomic; on other databases they avoid lost races. All rows share 256 locks.
type locks [256]sync.Mutex

// LockAll locks all these rows and returns the function that unlocks them. It always takes the locks in the same order,
// so that two calls never wait for each other. The caller must hold no lock of a row.
func (c *Collection) LockAll(ids []string) (unlock func()) {
	var wanted []int
	for _, id := range ids {
		wanted = append(wanted, int(crc32.ChecksumIEEE([]byte(id))%uint32(len(c.locks))))
	}
	slices.Sort(wanted)
	wanted = slices.Compact(wanted)
	for _, i := range wanted {
		c.locks[i].Lock()
	}
	return func() {
		for _, i := range wanted {
			c.locks[i].Unlock()
		}
	}
}

// Lock locks a row and returns the function that unlocks it.
func (c *Collection) Lock(id string) (unlock func()) { return c.LockAll([]string{id}) }

// lookup returns the value that a row has at a path, such as "failure.at".
func lookup(row bson.Raw, path string) bson.RawValue { return row.Lookup(strings.Split(path, ".")...) }

// Text returns the text that a row has at a path, such as "failure.error", or "" if there is no text.
func Text(row bson.Raw, path string) string {
	text, _ := lookup(row, path).StringValueOK()
	return text
}

// ByID returns the filter for the row with an _id.
func ByID(id string) bson.D { return bson.D{{Key: "_id", Value: id}} }

// byKey returns the filter for the row with a key.
func (c *Collection) byKey(id string) bson.D { return bson.D{{Key: c.key, Value: id}} }

func (c *Collection) byKeys(ids []string) bson.D { return oneOf(c.key, ids) }

// oneOf returns the filter for the rows that have one of the texts in a field.
func oneOf(field string, texts []string) bson.D {
	return bson.D{{Key: field, Value: bson.D{{Key: "$in", Value: texts}}}}
}

// failed redacts err and adds what failed and the name of the collection. It returns nil if err is nil.
func (c *Collection) failed(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %s: %w", what, c.Name(), Redact(err))
}

// findAll reads all rows that the filter finds into rows, which is a pointer to a slice.
func (c *Collection) findAll(ctx context.Context, filter bson.D, find *options.FindOptionsBuilder, rows any) error {
	cur, err := c.Find(ctx, filter, find)
	if err == nil {
		err = cur.All(ctx, rows)
	}
	return c.failed("read", err)
}

// Get returns the row with an _id, and whether there is one.
func Get[T any](ctx context.Context, c *Collection, id string) (row T, there bool, _ error) {
	err := c.FindOne(ctx, ByID(id)).Decode(&row)
	if errors.Is(err, mongo.ErrNoDocuments) {
		return row, false, nil
	}
	return row, err == nil, c.failed("read "+id+" in", err)
}

// Take removes the row with this id and returns what these fields had, and whether the row was there.
func Take[T any](ctx context.Context, c *Collection, id string, fields ...string) (row T, there bool, _ error) {
	o := options.FindOneAndDelete()
	if !c.db.OneProcess { // FerretDB v1 refuses a projection here
		o.SetProjection(only(fields))
	}
	err := c.FindOneAndDelete(ctx, ByID(id), o).Decode(&row)
	if errors.Is(err, mongo.ErrNoDocuments) {
		return row, false, nil
	}
	return row, err == nil, c.failed("remove "+id+" from", err)
}

// Guard returns a filter that matches only while these fields have exactly the values that they have in row.
func Guard(row bson.Raw, fields ...string) bson.D {
	guard := bson.D{}
	for _, field := range fields {
		v := lookup(row, field)
		is := bson.D{{Key: "$eq", Value: v}}
		switch v.Type {
		case 0: // the row does not have the field
			is = bson.D{{Key: "$exists", Value: false}}
		case bson.TypeNull: // a comparison with null would match rows without the field too
			is = bson.D{{Key: "$type", Value: "null"}}
		}
		guard = append(guard, bson.E{Key: field, Value: is})
	}
	return guard
}

// Change reads the row with an _id, does the update that f returns for it, and tells whether it did. It does nothing if
// f returns nil, if there is no row, or if another process changed one of the guarded fields meanwhile. The caller must
// not hold the row's lock.
func Change[T any](ctx context.Context, c *Collection, id string, guard []string, f func(T) bson.D) (bool, error) {
	defer c.Lock(id)()
	raw, there, err := Get[bson.Raw](ctx, c, id)
	if !there {
		return false, err
	}
	var row T
	if err := bson.Unmarshal(raw, &row); err != nil {
		return false, c.failed("read "+id+" in", err)
	}
	change := f(row)
	if change == nil {
		return false, nil
	}
	res, err := c.UpdateOne(ctx, c.guarded(id, Guard(raw, guard...)), change)
	return err == nil && res.MatchedCount > 0, c.failed("change "+id+" in", err)
}

// DeleteIf removes the row with a key if the guard still matches, and tells whether it did. The caller must hold the
// row's lock, and must have read the row for the guard under that lock.
func (c *Collection) DeleteIf(ctx context.Context, id string, guard bson.D) (bool, error) {
	res, err := c.DeleteOne(ctx, c.guarded(id, guard))
	return err == nil && res.DeletedCount > 0, c.failed("remove "+id+" from", err)
}

// guarded returns the filter for a row that was read under its lock. If only this process writes, the lock is enough;
// FerretDB v1 finds a row quickly only if the filter is its _id and nothing else.
func (c *Collection) guarded(id string, guard bson.D) bson.D {
	if !c.db.OneProcess {
		return append(c.byKey(id), guard...)
	}
	for _, e := range guard {
		if e.Key == idField && c.key != idField {
			return bson.D{e}
		}
	}
	return c.byKey(id)
}

// Claim claims the row with an _id for the caller, by setting the fields in mine. It succeeds if there is no such row
// yet, or if free says that the claim on it is over. It tells whether the caller won, and if not, returns the row as
// another holder has it.
func Claim[T any](
	ctx context.Context, c *Collection, id string, mine bson.D, free func(T) bool,
) (held T, won bool, _ error) {
	guard := make([]string, len(mine))
	for i, field := range mine {
		guard[i] = field.Key
	}
	for range 3 { // between the two commands the row may be removed or claimed by another process
		_, err := c.InsertOne(ctx, append(ByID(id), mine...))
		if err == nil || !IsDuplicate(err) {
			return held, err == nil, c.failed("insert "+id+" into", err)
		}
		refused := false
		won, err = Change(ctx, c, id, guard, func(row T) bson.D {
			if held, refused = row, !free(row); refused {
				return nil
			}
			return bson.D{{Key: "$set", Value: mine}}
		})
		if won || refused || err != nil {
			return held, won, err
		}
	}
	return held, false, nil
}

// Oldest returns at most limit rows whose time in a field is before another time, the oldest first. The field must have
// an index. FerretDB v1 cannot use it and reads the whole collection: then Oldest returns how long that took, otherwise
// 0, and sorts only the first rows found, a hundred or limit if that is more. Rows that cannot be decoded are left out;
// the error names them, beside the rows that could be.
func Oldest[T any](
	ctx context.Context, c *Collection, field string, before time.Time, limit int,
) (rows []T, took time.Duration, _ error) {
	find := options.Find().SetLimit(int64(limit)).SetSort(bson.D{{Key: field, Value: 1}})
	if c.db.OneProcess { // FerretDB v1 would sort all rows
		find = options.Find().SetLimit(int64(max(limit, 100)))
	}
	start := time.Now()
	var raws []bson.Raw
	err := c.findAll(ctx, bson.D{{Key: field, Value: bson.D{{Key: "$lt", Value: before}}}}, find, &raws)
	if c.db.OneProcess {
		took = time.Since(start)
	}
	at := func(row bson.Raw) time.Time { t, _ := lookup(row, field).TimeOK(); return t }
	slices.SortStableFunc(raws, func(a, b bson.Raw) int { return at(a).Compare(at(b)) })
	raws = raws[:min(limit, len(raws))]
	for _, raw := range raws {
		var row T
		if odd := bson.Unmarshal(raw, &row); odd != nil {
			err = errors.Join(err, fmt.Errorf("row %s: %w", raw.Lookup("_id"), c.failed("read", odd)))
			continue
		}
		rows = append(rows, row)
	}
	return rows, took, err
}

// FirstTime returns the earliest time in a field of the rows that a filter finds, or the zero time if it finds none.
func (c *Collection) FirstTime(ctx context.Context, field string, filter bson.D) (time.Time, error) {
	find := options.Find().SetSort(bson.D{{Key: field, Value: 1}}).SetLimit(1).SetProjection(only([]string{field}))
	var rows []bson.Raw
	if err := c.findAll(ctx, filter, find, &rows); err != nil || len(rows) == 0 {
		return time.Time{}, err
	}
	at, _ := lookup(rows[0], field).TimeOK()
	return at, nil
}

// RemoveOld removes at most limit rows whose time in a field is before another time, and returns how many it removed. A
// row whose time changed after it was found stays.
func (c *Collection) RemoveOld(ctx context.Context, field string, before time.Time, limit int) (int, error) {
	old, _, err := Oldest[bson.Raw](ctx, c, field, before, limit)
	if err != nil {
		return 0, err
	}
	var removed atomic.Int64
	err = sideBySide(len(old), func(i int) error {
		id, _ := old[i].Lookup("_id").StringValueOK() // an id of another type is not ours: its row stays
		defer c.Lock(id)()
		row, _, err := Get[bson.Raw](ctx, c, id)
		if at, ok := lookup(row, field).TimeOK(); err != nil || !ok || !at.Before(before) {
			return err
		}
		gone, err := c.DeleteIf(ctx, id, Guard(row, field))
		if gone {
			removed.Add(1)
		}
		return err
	})
	return int(removed.Load()), err
}

// Count returns how many rows a filter matches.
func (c *Collection) Count(ctx context.Context, filter bson.D) (int, error) {
	n, err := c.CountDocuments(ctx, filter)
	return int(n), c.failed("count the rows of", err)
}

// Estimate returns about how many rows the collection has, without reading them.
func (c *Collection) Estimate(ctx context.Context) (int, error) {
	if c.db.engine != nil { // a count on FerretDB v1 would read the whole collection
		return c.db.engine.Count(ctx, c.db.Name(), c.Name())
	}
	n, err := c.EstimatedDocumentCount(ctx)
	return int(n), c.failed("count the rows of", err)
}

// Taken returns those of the texts that some row has in a field. For this FerretDB v1 reads the whole collection.
func (c *Collection) Taken(ctx context.Context, field string, texts []string) (map[string]bool, error) {
	taken := map[string]bool{}
	if len(texts) == 0 {
		return taken, nil
	}
	var rows []bson.Raw
	err := c.findAll(ctx, oneOf(field, texts), options.Find().SetProjection(only([]string{field})), &rows)
	for _, row := range rows {
		taken[Text(row, field)] = true // "" if $in found a list that has one of the texts
	}
	return taken, err
}

// IDs returns at most limit sorted keys that are greater than after and less than before. For each it also returns the
// text that its row has at a path, or "" if there is no text there.
func (c *Collection) IDs(ctx context.Context, path, after, before string, limit int) (ids, texts []string, _ error) {
	if c.db.engine != nil && c.key == idField { // a find on FerretDB v1 would read and sort the whole collection
		return c.db.engine.IDs(ctx, c.db.Name(), c.Name(), path, after, before, limit)
	}
	between := bson.D{{Key: c.key, Value: bson.D{{Key: "$gt", Value: after}, {Key: "$lt", Value: before}}}}
	projection := bson.D{{Key: path, Value: 1}}
	if c.key != idField {
		projection = append(projection, bson.E{Key: c.key, Value: 1})
	}
	find := options.Find().SetSort(bson.D{{Key: c.key, Value: 1}}).SetProjection(projection)
	for read := limit; ; read *= 2 {
		var rows []bson.Raw
		err := c.findAll(ctx, between, find.SetLimit(int64(read)), &rows)
		ids, texts = make([]string, 0, limit), make([]string, 0, limit)
		for _, row := range rows {
			if id, ok := c.keyOf(row); ok && len(ids) < limit {
				ids, texts = append(ids, id), append(texts, Text(row, path))
			}
		}
		// A list of the app's in the key field is found too, if one of its texts is in the range.
		if err != nil || len(ids) == limit || len(rows) < read {
			return ids, texts, err
		}
	}
}
