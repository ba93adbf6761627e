package database

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// Index is an index on one field.
type Index struct {
	Field  string
	Unique bool // refuses two rows with one value; rows without the field do not clash
	// TTL is how long after the time in the field MongoDB removes a row; 0 for never. FerretDB v1 removes none.
	TTL time.Duration
}

// options are those that the database understands: the unique indexes of FerretDB v1 are sparse without being told.
func (ix Index) options(db *DB) *options.IndexOptionsBuilder {
	opts := options.Index()
	if ix.Unique {
		opts.SetUnique(true)
	}
	if ix.Unique && !db.OneProcess {
		opts.SetSparse(true)
	}
	if ix.TTL > 0 && !db.OneProcess {
		opts.SetExpireAfterSeconds(int32(ix.TTL.Seconds()))
	}
	return opts
}

// indexTimeout bounds the building of an index, which reads the whole collection.
const indexTimeout = 2 * time.Hour

// EnsureIndex makes the index if it is not there yet; one of the app's own on the same field will do, if it is unique
// where ours is. It tells the log if the collection has rows, for then it may take long.
func (c *Collection) EnsureIndex(ctx context.Context, ix Index) error {
	specs, err := c.listIndexes(ctx)
	if err != nil && !errors.Is(err, errNoList) {
		return err
	}
	if !slices.ContainsFunc(specs, ix.is) {
		if err := c.makeIndex(ctx, ix); err != nil {
			return err
		}
	}
	return c.db.IndexIDs(ctx)
}

func (c *Collection) makeIndex(ctx context.Context, ix Index) error {
	// The rest of this project's operations take milliseconds; this one takes minutes on a large collection.
	ctx, cancel := context.WithTimeout(ctx, indexTimeout)
	defer cancel()
	start := time.Now()
	large := c.FindOne(ctx, bson.D{}).Err() == nil
	log := c.db.Log.With("collection", c.Name(), "field", ix.Field)
	if large {
		log.InfoContext(ctx, "building an index: this takes minutes on a large collection")
	}
	model := mongo.IndexModel{Keys: bson.D{{Key: ix.Field, Value: 1}}, Options: ix.options(c.db)}
	_, err := c.Indexes().CreateOne(ctx, model)
	switch {
	case IsDuplicate(err):
		return fmt.Errorf("the collection %s has rows with the same %s: make them different first, the index on it is "+
			"unique", c.Name(), ix.Field)
	case hasCode(err, 85, 86): // IndexOptionsConflict, IndexKeySpecsConflict
		return fmt.Errorf("the collection %s has another kind of index on %s: drop it, ours takes its place",
			c.Name(), ix.Field)
	case err != nil:
		return fmt.Errorf("index %s by %s: %w", c.Name(), ix.Field, Redact(err))
	case large:
		log.InfoContext(ctx, "the index is built", "took", time.Since(start).Round(time.Millisecond).String())
	}
	return nil
}

// IndexIDs gives the collections of an embedded database the index by which it finds a row by its _id, without which it
// reads all rows. EnsureIndex does it too. Other databases have it.
func (db *DB) IndexIDs(ctx context.Context) error {
	if db.engine == nil {
		return nil
	}
	return db.engine.IndexIDs(ctx, db.Name())
}

// LacksIndex tells whether EnsureIndex has something to do, and writes nothing. A server that cannot list its indexes
// is taken to have them.
func (c *Collection) LacksIndex(ctx context.Context, ix Index) (bool, error) {
	specs, err := c.listIndexes(ctx)
	if errors.Is(err, errNoList) {
		return false, nil
	}
	return err == nil && !slices.ContainsFunc(specs, ix.is), err
}

// ForeignUnique returns the names of the unique indexes of the collection that are on anything but a field of ours or
// the _id. A server that cannot list its indexes has none.
func (c *Collection) ForeignUnique(ctx context.Context, ours string) (names []string, _ error) {
	specs, err := c.listIndexes(ctx)
	if err != nil && !errors.Is(err, errNoList) {
		return nil, err
	}
	for _, s := range specs {
		if isUnique(s) && !isOn(s, ours) && !isOn(s, "_id") {
			names = append(names, s.Name)
		}
	}
	return names, nil
}

// is tells whether an index of a collection is ix, or does for it.
func (ix Index) is(s mongo.IndexSpecification) bool {
	return isOn(s, ix.Field) && (!ix.Unique || isUnique(s))
}

func isUnique(s mongo.IndexSpecification) bool { return s.Unique != nil && *s.Unique }

// isOn tells whether an index is on a field, and on no other.
func isOn(s mongo.IndexSpecification, field string) bool {
	keys, err := s.KeysDocument.Elements()
	return err == nil && len(keys) == 1 && keys[0].Key() == field
}

// errNoList is what a server says that is no MongoDB and only speaks its protocol.
var errNoList = errors.New("the server cannot list its indexes")

// listIndexes returns the indexes of the collection, none if there is no collection yet. The error may be errNoList.
func (c *Collection) listIndexes(ctx context.Context) ([]mongo.IndexSpecification, error) {
	specs, err := c.Indexes().ListSpecifications(ctx)
	switch {
	case hasCode(err, 59): // CommandNotFound
		return nil, errNoList
	case hasCode(err, 26): // NamespaceNotFound
		return nil, nil
	}
	return specs, c.failed("list the indexes of", err)
}

func hasCode(err error, codes ...int) bool {
	var se mongo.ServerError
	return errors.As(err, &se) && slices.ContainsFunc(codes, se.HasErrorCode)
}
