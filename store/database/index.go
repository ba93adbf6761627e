package database

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// Index is an index on one field.
type Index struct {
	Field   string
	Options *options.IndexOptionsBuilder // nil for a plain one
	Unique  bool                         // refuses two rows with one value; rows without the field do not clash
}

// indexTimeout bounds the building of an index, which reads the whole collection.
const indexTimeout = 2 * time.Hour

// EnsureIndex makes the index if it is not there yet; one of the app's own on the same field will do, if it is unique
// where ours is. It tells the log if the collection has rows, for then it may take long.
func EnsureIndex(ctx context.Context, log *slog.Logger, coll *mongo.Collection, ix Index) error {
	there, err := hasIndex(ctx, coll, ix)
	if err != nil || there {
		return err
	}
	opts := ix.Options
	if opts == nil {
		opts = options.Index()
	}
	if ix.Unique {
		opts.SetUnique(true)
	}
	// The rest of this project's operations take milliseconds; this one takes minutes on a large collection.
	ctx, cancel := context.WithTimeout(ctx, indexTimeout)
	defer cancel()
	start := time.Now()
	large := coll.FindOne(ctx, bson.D{}).Err() == nil
	if log = log.With("collection", coll.Name(), "field", ix.Field); large {
		log.InfoContext(ctx, "building an index: this takes minutes on a large collection")
	}
	_, err = coll.Indexes().CreateOne(ctx, mongo.IndexModel{Keys: bson.D{{Key: ix.Field, Value: 1}}, Options: opts})
	if large && err == nil {
		log.InfoContext(ctx, "the index is built", "took", time.Since(start).Round(time.Millisecond).String())
	}
	if IsDuplicate(err) {
		return fmt.Errorf("the collection %s has rows with the same %s: make them different first, the index on it is unique", coll.Name(), ix.Field)
	}
	if se := mongo.ServerError(nil); errors.As(err, &se) && (se.HasErrorCode(85) || se.HasErrorCode(86)) { // IndexOptionsConflict, IndexKeySpecsConflict
		return fmt.Errorf("the collection %s has another kind of index on %s: drop it, ours takes its place", coll.Name(), ix.Field)
	}
	if err != nil {
		return fmt.Errorf("index %s by %s: %w", coll.Name(), ix.Field, Redact(err))
	}
	return nil
}

// LacksIndex tells whether EnsureIndex has something to do, and writes nothing. A server that cannot list its indexes
// is taken to have them.
func LacksIndex(ctx context.Context, coll *mongo.Collection, ix Index) (bool, error) {
	there, err := listsIndex(ctx, coll, ix)
	if errors.Is(err, errNoList) {
		return false, nil
	}
	return !there && err == nil, err
}

func hasIndex(ctx context.Context, coll *mongo.Collection, ix Index) (bool, error) {
	there, err := listsIndex(ctx, coll, ix)
	switch {
	case errors.Is(err, errNoList) && ix.Unique:
		return isUnique(ctx, coll, ix.Field)
	case errors.Is(err, errNoList):
		return false, nil
	}
	return there, err
}

var errNoList = errors.New("the server cannot list its indexes")

func listsIndex(ctx context.Context, coll *mongo.Collection, ix Index) (bool, error) {
	specs, err := listIndexes(ctx, coll)
	return slices.ContainsFunc(specs, func(s mongo.IndexSpecification) bool {
		return slices.Equal(keysOf(s), []string{ix.Field}) && (!ix.Unique || s.Unique != nil && *s.Unique)
	}), err
}

// listIndexes returns the indexes of a collection, none if there is no collection yet. The error may be errNoList.
func listIndexes(ctx context.Context, coll *mongo.Collection) ([]mongo.IndexSpecification, error) {
	specs, err := coll.Indexes().ListSpecifications(ctx)
	var se mongo.ServerError
	switch {
	case errors.As(err, &se) && se.HasErrorCode(59): // CommandNotFound
		return nil, errNoList
	case errors.As(err, &se) && se.HasErrorCode(26): // NamespaceNotFound: no collection yet
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("list the indexes of %s: %w", coll.Name(), Redact(err))
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

// UniqueIndexes returns the unique indexes of a collection, by name with their fields, but for that on _id. A server
// that cannot list its indexes has none.
func (db *DB) UniqueIndexes(ctx context.Context, coll *mongo.Collection) (map[string][]string, error) {
	specs, err := listIndexes(ctx, coll)
	if err != nil && !errors.Is(err, errNoList) {
		return nil, err
	}
	all := map[string][]string{}
	for _, ix := range specs {
		if keys := keysOf(ix); ix.Unique != nil && *ix.Unique && !slices.Equal(keys, []string{"_id"}) {
			all[ix.Name] = keys
		}
	}
	return all, nil
}

// isUnique finds out by trying, on a server that cannot list its indexes and may not bear to be given one twice.
func isUnique(ctx context.Context, coll *mongo.Collection, field string) (bool, error) {
	value := "probe-" + rand.Text()
	ids := bson.A{value + "-1", value + "-2"}
	var err error
	for _, id := range ids {
		if _, err = coll.InsertOne(ctx, bson.D{{Key: "_id", Value: id}, {Key: field, Value: value}}); err != nil {
			break
		}
	}
	if _, e := coll.DeleteMany(ctx, bson.D{{Key: "_id", Value: bson.D{{Key: "$in", Value: ids}}}}); e != nil {
		return false, fmt.Errorf("try the index of %s: %w", coll.Name(), Redact(e))
	}
	if err != nil && !IsDuplicate(err) {
		return false, fmt.Errorf("try the index of %s: %w", coll.Name(), Redact(err))
	}
	return err != nil, nil
}
