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
	Name   string // "" for MongoDB's own choice
	Unique bool   // refuses a second row with the same value; rows without the field do not clash
	// Texts makes a unique index one of texts that are not empty: rows with null, "" or a number do not clash either.
	// FerretDB v1 has no such index, so there is none.
	Texts bool
	// TTL is how long after the time in the field MongoDB removes a row; 0 means never. FerretDB v1 removes no rows.
	TTL time.Duration
}

// options returns the options that the database understands. In FerretDB v1 unique indexes are sparse without the
// option.
func (ix Index) options(db *DB) *options.IndexOptionsBuilder {
	opts := options.Index()
	if ix.Unique {
		opts.SetUnique(true)
	}
	if ix.Name != "" {
		opts.SetName(ix.Name)
	}
	switch {
	case ix.Texts:
		opts.SetPartialFilterExpression(bson.D{{Key: ix.Field, Value: bson.D{{Key: "$gt", Value: ""}}}})
	case ix.Unique && !db.OneProcess:
		opts.SetSparse(true)
	}
	if ix.TTL > 0 && !db.OneProcess {
		opts.SetExpireAfterSeconds(int32(ix.TTL.Seconds()))
	}
	return opts
}

// indexTimeout bounds how long MongoDB may build an index, for which it reads the whole collection.
const indexTimeout = 2 * time.Hour

// EnsureIndex makes the index if it does not exist yet. An index of the app on the same field is enough, but if ours is
// unique, the app's must be unique too. If the collection has rows, building may take long, so it is logged.
func (c *Collection) EnsureIndex(ctx context.Context, ix Index) error {
	specs, _, err := c.listIndexes(ctx)
	switch {
	case err != nil || slices.ContainsFunc(specs, ix.is):
	case ix.Texts && c.db.OneProcess:
		c.db.Log.InfoContext(ctx, "each look-up of a row reads the whole collection, because this database finds rows "+
			"quickly by _id alone", "collection", c.Name(), "key", ix.Field)
		// Nothing is made, so there may be no database yet in which to index the _ids.
		return c.refuseDoubles(ctx, ix.Field)
	default:
		err = c.makeIndex(ctx, ix)
	}
	if err != nil {
		return err
	}
	return c.db.IndexIDs(ctx)
}

func (c *Collection) makeIndex(ctx context.Context, ix Index) error {
	// On a large collection this takes minutes; all other operations take milliseconds.
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
	if IsDuplicate(err) && ix.Texts {
		if doubles := c.refuseDoubles(ctx, ix.Field); doubles != nil {
			return doubles
		}
	}
	switch {
	case IsDuplicate(err):
		return fmt.Errorf("the collection %s has rows with the same %s: make them different first, the index on it is "+
			"unique", c.Name(), ix.Field)
	case hasCode(err, 86) && ix.Name != "": // IndexKeySpecsConflict
		return fmt.Errorf("the collection %s has another index named %s than the one on %s, perhaps from the key "+
			"before: drop it, ours takes its place", c.Name(), ix.Name, ix.Field)
	case hasCode(err, 85, 86): // IndexOptionsConflict, IndexKeySpecsConflict
		return fmt.Errorf("the collection %s has another kind of index on %s: drop it, ours takes its place",
			c.Name(), ix.Field)
	case hasCode(err, 67) && ix.Unique: // CannotCreateIndex
		return fmt.Errorf("the collection %s cannot have a unique index on %s: if it is sharded, leave it on one "+
			"shard, see docs/adr/0009-what-each-call-needs.md", c.Name(), ix.Field)
	case err != nil:
		return fmt.Errorf("index %s by %s: %w", c.Name(), ix.Field, Redact(err))
	case large:
		log.InfoContext(ctx, "the index is built", "took", time.Since(start).Round(time.Millisecond).String())
	}
	return nil
}

// IndexIDs makes an index on _id in every collection of an embedded database, which otherwise reads all rows to find
// one by its _id. EnsureIndex calls it. Other databases have this index without it.
func (db *DB) IndexIDs(ctx context.Context) error {
	if db.engine == nil {
		return nil
	}
	return db.engine.IndexIDs(ctx, db.Name())
}

// LacksIndex tells whether EnsureIndex would make the index, and writes nothing. If a server cannot list its indexes,
// it returns false.
func (c *Collection) LacksIndex(ctx context.Context, ix Index) (bool, error) {
	if ix.Texts && c.db.OneProcess {
		return false, nil
	}
	specs, listed, err := c.listIndexes(ctx)
	return listed && !slices.ContainsFunc(specs, ix.is), err
}

// IndexInfo is an index that a collection has.
type IndexInfo struct {
	Name    string
	Fields  []string // in the order of the index
	Unique  bool
	Sparse  bool // rows without the fields are not in it
	Partial bool // only rows that a filter matches are in it
	Nulls   bool // rows whose first field is null are in it

	filter    bson.Raw           // of a partial index
	collation *options.Collation // nil means that texts are compared byte by byte
}

// ListIndexes returns the indexes of the collection, the app's among them, in the order in which the server lists them.
// If a server cannot list its indexes, it returns none.
func (c *Collection) ListIndexes(ctx context.Context) ([]IndexInfo, error) {
	specs, _, err := c.listIndexes(ctx)
	return specs, err
}

// is tells whether an index of a collection is ix, or can take its place. Of the partial indexes of the app's it is not
// known which rows they leave out, so none of them takes the place of one of texts.
func (ix Index) is(s IndexInfo) bool {
	return s.isOn(ix.Field) && (!ix.Unique || s.Unique) && (!ix.Texts || !s.Partial || s.Name == ix.Name)
}

// isOn tells whether an index is on this field alone.
func (s IndexInfo) isOn(field string) bool { return len(s.Fields) == 1 && s.Fields[0] == field }

// listIndexes returns the indexes of the collection, or none if the collection does not exist yet. listed is false if
// it failed, and for servers that speak MongoDB's protocol but cannot list indexes.
func (c *Collection) listIndexes(ctx context.Context) (infos []IndexInfo, listed bool, _ error) {
	var specs []struct {
		Name    string   `bson:"name"`
		Keys    bson.D   `bson:"key"`
		Unique  bool     `bson:"unique"`
		Sparse  bool     `bson:"sparse"`
		Partial bson.Raw `bson:"partialFilterExpression"` // the driver's IndexSpecification does not have it

		Collation *collation `bson:"collation"`
	}
	cur, err := c.Indexes().List(ctx)
	if err == nil {
		err = cur.All(ctx, &specs)
	}
	switch {
	case hasCode(err, 59): // CommandNotFound
		return nil, false, nil
	case hasCode(err, 26): // NamespaceNotFound
		return nil, true, nil
	}
	for _, s := range specs {
		info := IndexInfo{
			Name: s.Name, Unique: s.Unique, Sparse: s.Sparse || s.Unique && c.db.OneProcess, Partial: s.Partial != nil,
			Nulls: true, filter: s.Partial, collation: (*options.Collation)(s.Collation),
		}
		for _, key := range s.Keys {
			info.Fields = append(info.Fields, key.Key)
		}
		if len(info.Fields) > 0 {
			info.Nulls = !textsOnly(s.Partial, info.Fields[0])
		}
		infos = append(infos, info)
	}
	return infos, err == nil, c.failed("list the indexes of", err)
}

// textsOnly tells whether the filter of a partial index leaves out rows whose field is null, as {$type: "string"} and
// {$gt: ""} do.
func textsOnly(filter bson.Raw, field string) bool {
	on, _ := filter.Lookup(field).DocumentOK() // the field's name may have dots
	typ, _ := on.Lookup("$type").StringValueOK()
	number, _ := on.Lookup("$type").AsInt64OK()
	_, above := on.Lookup("$gt").StringValueOK()
	return typ == "string" || number == int64(bson.TypeString) || above
}

func hasCode(err error, codes ...int) bool {
	var se mongo.ServerError
	return errors.As(err, &se) && slices.ContainsFunc(codes, se.HasErrorCode)
}
