package database

import (
	"context"
	"crypto/rand"
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
		opts.SetExpireAfterSeconds(int32(ix.TTL / time.Second))
	}
	return opts
}

// indexTimeout bounds the building of an index, which reads the whole collection.
const indexTimeout = 2 * time.Hour

// EnsureIndex makes the index if it is not there yet; one of the app's own on the same field will do, if it is unique
// where ours is. It tells the log if the collection has rows, for then it may take long.
func (c *Collection) EnsureIndex(ctx context.Context, ix Index) error {
	there, err := c.hasIndex(ctx, ix)
	if err != nil || there {
		return errors.Join(err, c.db.IndexIDs(ctx))
	}
	// The rest of this project's operations take milliseconds; this one takes minutes on a large collection.
	ctx, cancel := context.WithTimeout(ctx, indexTimeout)
	defer cancel()
	start := time.Now()
	large := c.FindOne(ctx, bson.D{}).Err() == nil
	log := c.db.Log.With("collection", c.Name(), "field", ix.Field)
	if large {
		log.InfoContext(ctx, "building an index: this takes minutes on a large collection")
	}
	_, err = c.Indexes().CreateOne(ctx, mongo.IndexModel{Keys: bson.D{{Key: ix.Field, Value: 1}}, Options: ix.options(c.db)})
	if large && err == nil {
		log.InfoContext(ctx, "the index is built", "took", time.Since(start).Round(time.Millisecond).String())
	}
	se := mongo.ServerError(nil)
	switch {
	case IsDuplicate(err):
		return fmt.Errorf("the collection %s has rows with the same %s: make them different first, the index on it is unique", c.Name(), ix.Field)
	case errors.As(err, &se) && (se.HasErrorCode(85) || se.HasErrorCode(86)): // IndexOptionsConflict, IndexKeySpecsConflict
		return fmt.Errorf("the collection %s has another kind of index on %s: drop it, ours takes its place", c.Name(), ix.Field)
	case err != nil:
		return fmt.Errorf("index %s by %s: %w", c.Name(), ix.Field, Redact(err))
	}
	return c.db.IndexIDs(ctx)
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

func (c *Collection) hasIndex(ctx context.Context, ix Index) (bool, error) {
	specs, err := c.listIndexes(ctx)
	switch noList := errors.Is(err, errNoList); {
	case noList && ix.Unique:
		return c.isUnique(ctx, ix.Field)
	case noList:
		return false, nil
	}
	return slices.ContainsFunc(specs, ix.is), err
}

// is tells whether an index of a collection is ix, or does for it.
func (ix Index) is(s mongo.IndexSpecification) bool {
	return slices.Equal(keysOf(s), []string{ix.Field}) && (!ix.Unique || isTrue(s.Unique))
}

func isTrue(b *bool) bool { return b != nil && *b }

var errNoList = errors.New("the server cannot list its indexes")

// listIndexes returns the indexes of the collection, none if there is no collection yet. The error may be errNoList.
func (c *Collection) listIndexes(ctx context.Context) ([]mongo.IndexSpecification, error) {
	specs, err := c.Indexes().ListSpecifications(ctx)
	var se mongo.ServerError
	switch {
	case errors.As(err, &se) && se.HasErrorCode(59): // CommandNotFound
		return nil, errNoList
	case errors.As(err, &se) && se.HasErrorCode(26): // NamespaceNotFound: no collection yet
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("list the indexes of %s: %w", c.Name(), Redact(err))
	}
	return specs, nil
}

// keysOf returns the fields of an index.
func keysOf(s mongo.IndexSpecification) []string {
	var keys bson.D
	_ = bson.Unmarshal(s.KeysDocument, &keys) // one without keys is not the one that is looked for
	var fields []string
	for _, k := range keys {
		fields = append(fields, k.Key)
	}
	return fields
}

// UniqueIndexes returns the unique indexes of the collection, by name with their fields, but for that on _id. A server
// that cannot list its indexes has none.
func (c *Collection) UniqueIndexes(ctx context.Context) (map[string][]string, error) {
	specs, err := c.listIndexes(ctx)
	if err != nil && !errors.Is(err, errNoList) {
		return nil, err
	}
	all := map[string][]string{}
	for _, ix := range specs {
		if keys := keysOf(ix); isTrue(ix.Unique) && !slices.Equal(keys, []string{"_id"}) {
			all[ix.Name] = keys
		}
	}
	return all, nil
}

// isUnique finds out by trying, on a server that cannot list its indexes and may not bear to be given one twice.
func (c *Collection) isUnique(ctx context.Context, field string) (bool, error) {
	value := "probe-" + rand.Text()
	ids := []string{value + "-1", value + "-2"}
	var err error
	for _, id := range ids {
		if _, err = c.InsertOne(ctx, append(ByID(id), bson.E{Key: field, Value: value})); err != nil {
			break
		}
	}
	unique := IsDuplicate(err)
	if unique {
		err = nil
	}
	if err = errors.Join(err, c.DeleteEach(ctx, ids)); err != nil {
		return false, fmt.Errorf("try the index of %s: %w", c.Name(), Redact(err))
	}
	return unique, nil
}
