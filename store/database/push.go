package database

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// Lists says how the lists in the rows of a collection are kept, see PushEach.
type Lists struct {
	By   string // the field of an entry, a text, by which a list is sorted
	Keep int    // how many entries a list keeps: those that sort last
}

// Push adds an entry to a list of a row.
type Push struct {
	ID     string // the row's _id
	List   string // the name of the list
	Entry  bson.Raw
	Unless []Has  // nothing is done if a list has one of these already
	There  bool   // nothing is done if there is no such row
	Set    bson.D // what the row's other fields become
	New    bson.D // what other fields the row gets if there was none
}

// Has describes entries of a list: those with this text in a field.
type Has struct{ List, Field, Text string }

// PushEach adds entries to lists, makes the rows that there are not yet, and returns one error for each push: nil if
// the entry is there now or was there before. It takes one command for all of them, and a second one for those that
// were perhaps there before. Several pushes may be of one row.
//
// FerretDB v1 cannot keep a list sorted and short, and neither can some servers that speak MongoDB's protocol. There
// the rows are read, and written if nobody has changed the lists meanwhile.
func (c *Collection) PushEach(ctx context.Context, l Lists, pushes []Push) []error {
	errs := make([]error, len(pushes))
	if len(pushes) == 0 {
		return errs
	}
	if c.db.OneProcess || c.db.readsLists.Load() {
		return c.pushByReading(ctx, l, pushes)
	}
	todo := make([]int, len(pushes)) // the places of the pushes that are not done
	for i := range todo {
		todo[i] = i
	}
	// An upsert that finds no row which lacks the entry inserts one, and that is a duplicate if there is a row. Then
	// either the entry is there, or another process has made the row at the same time: the second try tells.
	for range 2 {
		again := todo[:0:0]
		for n, err := range c.upsertEach(ctx, l, pushes, todo) {
			i := todo[n]
			if errs[i] = err; IsDuplicate(err) {
				errs[i], again = nil, append(again, i)
			}
		}
		if todo = again; len(todo) == 0 {
			break
		}
	}
	if slices.ContainsFunc(errs, func(err error) bool { return hasCode(err, 9) }) { // FailedToParse
		c.db.readsLists.Store(true)
		return c.pushByReading(ctx, l, pushes)
	}
	return errs
}

// upsertEach does the pushes at these places in one command.
func (c *Collection) upsertEach(ctx context.Context, l Lists, pushes []Push, places []int) []error {
	models := make([]mongo.WriteModel, len(places))
	for n, i := range places {
		p := pushes[i]
		filter := ByID(p.ID)
		for _, h := range p.Unless {
			filter = append(filter, bson.E{Key: h.List + "." + h.Field, Value: bson.D{{Key: "$ne", Value: h.Text}}})
		}
		change := bson.D{{Key: "$push", Value: bson.D{{Key: p.List, Value: bson.D{
			{Key: "$each", Value: bson.A{p.Entry}},
			{Key: "$sort", Value: bson.D{{Key: l.By, Value: 1}}},
			{Key: "$slice", Value: -l.Keep},
		}}}}}
		if len(p.Set) > 0 {
			change = append(change, bson.E{Key: "$set", Value: p.Set})
		}
		if len(p.New) > 0 {
			change = append(change, bson.E{Key: "$setOnInsert", Value: p.New})
		}
		models[n] = mongo.NewUpdateOneModel().SetFilter(filter).SetUpdate(change).SetUpsert(!p.There)
	}
	errs := make([]error, len(places))
	_, err := c.BulkWrite(ctx, models, options.BulkWrite().SetOrdered(false))
	spread(errs, err)
	return errs
}

// errPushRaced says that in each round another process changed the lists between read and write.
var errPushRaced = errors.New("other processes changed the lists meanwhile")

// pushByReading does the work of PushEach without the operators that not every server has.
func (c *Collection) pushByReading(ctx context.Context, l Lists, pushes []Push) []error {
	of := map[string][]int{} // the places of the pushes of each row
	for i, p := range pushes {
		of[p.ID] = append(of[p.ID], i)
	}
	todo := make([]string, 0, len(of))
	for id := range of {
		todo = append(todo, id)
	}
	defer c.LockAll(todo)()
	errs := make([]error, len(pushes))
	fail := func(id string, err error) {
		for _, i := range of[id] {
			errs[i] = err
		}
	}
	for range 10 {
		rows, err := c.FindMany(ctx, todo)
		if err != nil {
			for _, id := range todo {
				fail(id, err)
			}
			return errs
		}
		var made []string
		var docs []any
		var changed []Update
		for _, id := range todo {
			mine := make([]Push, len(of[id]))
			for n, i := range of[id] {
				mine[n] = pushes[i]
			}
			switch change, err := l.change(rows[id], mine); {
			case err != nil:
				fail(id, fmt.Errorf("write %s in %s: %w", id, c.Name(), err))
			case change == nil: // all entries are there
			case rows[id] == nil:
				made, docs = append(made, id), append(docs, append(ByID(id), change...))
			default:
				guard := Guard(rows[id], listsOf(mine)...)
				changed = append(changed, Update{id, guard, bson.D{{Key: "$set", Value: change}}})
			}
		}
		todo = todo[:0]
		for n, err := range c.InsertEach(ctx, made, docs) {
			if IsDuplicate(err) {
				todo = append(todo, made[n])
			} else {
				fail(made[n], err)
			}
		}
		for n, err := range c.UpdateEach(ctx, changed) {
			if errors.Is(err, ErrUnmatched) {
				todo = append(todo, changed[n].ID)
			} else {
				fail(changed[n].ID, err)
			}
		}
		if len(todo) == 0 {
			return errs
		}
	}
	for _, id := range todo {
		fail(id, errPushRaced)
	}
	return errs
}

// listsOf returns the names of the lists that pushes are about.
func listsOf(pushes []Push) (lists []string) {
	for _, p := range pushes {
		lists = append(lists, p.List)
		for _, h := range p.Unless {
			lists = append(lists, h.List)
		}
	}
	slices.Sort(lists)
	return slices.Compact(lists)
}

// change returns what the fields of a row become by the pushes, which are all of this row, or nil if nothing changes.
func (l Lists) change(row bson.Raw, pushes []Push) (bson.D, error) {
	lists := map[string][]bson.Raw{}
	for _, name := range listsOf(pushes) {
		v := row.Lookup(name)
		if v.Type == 0 {
			continue
		}
		list, isList := v.ArrayOK()
		if !isList {
			return nil, fmt.Errorf("%s is no list", name)
		}
		values, err := list.Values()
		if err != nil {
			return nil, fmt.Errorf("%s is damaged: %w", name, err)
		}
		for _, v := range values {
			if entry, ok := v.DocumentOK(); ok { // anything else is not ours
				lists[name] = append(lists[name], entry)
			}
		}
	}
	var change bson.D
	set := func(e bson.E) {
		if i := slices.IndexFunc(change, func(o bson.E) bool { return o.Key == e.Key }); i >= 0 {
			change[i] = e
		} else {
			change = append(change, e)
		}
	}
	for _, p := range pushes {
		has := func(h Has) bool {
			return slices.ContainsFunc(lists[h.List], func(e bson.Raw) bool { return Text(e, h.Field) == h.Text })
		}
		if slices.ContainsFunc(p.Unless, has) || p.There && row == nil && change == nil {
			continue
		}
		all := append(lists[p.List], p.Entry)
		slices.SortStableFunc(all, func(a, b bson.Raw) int { return cmp.Compare(Text(a, l.By), Text(b, l.By)) })
		lists[p.List] = all[max(0, len(all)-l.Keep):]
		if row == nil && change == nil {
			change = slices.Clone(p.New)
		}
		for _, e := range p.Set {
			set(e)
		}
		set(bson.E{Key: p.List, Value: lists[p.List]})
	}
	return change, nil
}
