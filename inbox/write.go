package inbox

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"clerksync/store/database"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// commit writes puts until ctx ends: the first that comes at once, and with it all that came while as many inserts were
// in flight as flow allows (a group commit). An idle line waits for nothing.
func (b *Inbox) commit(ctx, hard context.Context) {
	var writes sync.WaitGroup
	defer writes.Wait()
	for {
		var p *put
		select {
		case p = <-b.puts:
		case <-ctx.Done():
			return
		}
		b.flow.begin()
		runtime.Gosched() // webhooks that are ready to put come along
		batch, size := []*put{p}, len(p.event.Data)
		for size < maxInsertBytes && len(batch) < maxInsert {
			more, ok := waiting(b.puts)
			if !ok {
				break
			}
			batch, size = append(batch, more), size+len(more.event.Data)
		}
		writes.Go(func() {
			start := time.Now()
			b.write(hard, batch)
			b.flow.end(time.Since(start))
		})
	}
}

// waiting takes what stands in line in c, without waiting.
func waiting[T any](c <-chan T) (v T, ok bool) {
	select {
	case v, ok = <-c:
	default:
	}
	return v, ok
}

// write inserts the batch, answers each of its puts, and hands what is new to the senders.
func (b *Inbox) write(ctx context.Context, batch []*put) {
	ctx, cancel := context.WithTimeout(ctx, insertTimeout)
	defer cancel()
	// Events that will be sent at once are written as sent once, so that the sending needs no write of its own. If it
	// fails, or this process dies first, they are sent later, under another id.
	direct := !b.away.Load() && b.queued.Load()+int64(len(batch)) <= maxOut
	now := b.stamp()
	var rows []row
	puts := map[string][]*put{} // by id: a redelivery that came meanwhile is the same event
	for _, p := range batch {
		e := p.event
		puts[e.ID] = append(puts[e.ID], p)
		if len(puts[e.ID]) > 1 {
			continue
		}
		r := row{
			ID: e.ID, Name: e.Name, Data: string(e.Data), TS: e.TS, V: e.V,
			ReceivedAt: now, DueAt: now, GiveUpAt: now.Add(giveUpAfter),
		}
		if direct {
			r.Sends, r.DueAt = 1, now.Add(b.resendInterval(1))
		}
		rows = append(rows, r)
	}
	var out []Event
	for i, err := range b.insert(ctx, rows) {
		r := rows[i]
		switch {
		case err == nil:
			b.metrics.written.Inc()
			if direct {
				out = append(out, puts[r.ID][0].event)
			}
		case errors.Is(err, errThere):
			err = nil
		case errors.Is(err, errFailed):
			var done, pending bool // somebody who delivers it once more wants it tried once more
			if done, pending, err = b.revive(ctx, r.ID); err == nil && !done && !pending {
				err = errVanished
			}
		default:
			err = database.Redact(err)
		}
		if err != nil {
			err = fmt.Errorf("write to the inbox: %w", err)
		}
		for _, p := range puts[r.ID] {
			p.done <- err
		}
	}
	if len(out) > 0 {
		b.queued.Add(int64(len(out)))
		select {
		case b.out <- out:
		default: // they are sent later, under another id
			b.queued.Add(-int64(len(out)))
		}
	}
}

// stamp returns the time, in milliseconds as the database keeps it, and never the same twice: insertRest knows an
// insert's rows by it.
func (b *Inbox) stamp() time.Time {
	for {
		last := b.stamped.Load()
		if ms := max(time.Now().UnixMilli(), last+1); b.stamped.CompareAndSwap(last, ms) {
			return time.UnixMilli(ms)
		}
	}
}

// errThere says that a row was in the collection before, and errFailed that it is a dead letter there.
var (
	errThere  = errors.New("the event is in the inbox already")
	errFailed = errors.New("the event is a dead letter")
)

// errVanished says that a row was removed meanwhile: when its event was written, or as a dropped dead letter, by the
// clean-up. Which of the two cannot be told, so it has to be delivered again.
var errVanished = errors.New("the event left the inbox while it was delivered once more")

// insert writes all rows in one round trip and returns an error for each that was not written; what was there already
// takes another.
func (b *Inbox) insert(ctx context.Context, rows []row) []error {
	errs := make([]error, len(rows))
	b.metrics.inserts.Inc()
	_, err := b.ingress.InsertMany(ctx, rows, options.InsertMany().SetOrdered(false))
	if err == nil {
		return errs
	}
	var bulk mongo.BulkWriteException
	refused := errors.As(err, &bulk) && bulk.WriteConcernError == nil && len(bulk.WriteErrors) > 0
	switch {
	case refused && b.db.OneProcess:
		return b.insertRest(ctx, rows)
	case refused:
		var again []row
		for _, we := range bulk.WriteErrors {
			if errs[we.Index] = we; database.IsDuplicate(we) {
				again = append(again, rows[we.Index])
			}
		}
		there, err := b.those(ctx, again)
		for _, we := range bulk.WriteErrors {
			switch {
			case !database.IsDuplicate(we):
			case err != nil:
				errs[we.Index] = err
			default:
				errs[we.Index] = errVanished
				if r, ok := there[rows[we.Index].ID]; ok {
					errs[we.Index] = r.known()
				}
			}
		}
	default:
		for i := range errs {
			errs[i] = err
		}
	}
	return errs
}

// known says why a row that is in the collection cannot be inserted.
func (r row) known() error {
	if r.Failure != nil {
		return errFailed
	}
	return errThere
}

// insertRest goes on where FerretDB v1 stopped, at the first row that was there already; it does not say which one that
// is.
func (b *Inbox) insertRest(ctx context.Context, rows []row) []error {
	errs := make([]error, len(rows))
	there, err := b.those(ctx, rows)
	if err != nil {
		for i := range errs {
			errs[i] = err
		}
		return errs
	}
	var rest []row
	var at []int // the places of rest in rows
	for i, r := range rows {
		found, ok := there[r.ID]
		switch {
		case !ok:
			rest, at = append(rest, r), append(at, i)
		case !found.ReceivedAt.Equal(r.ReceivedAt): // else it was written before the stop
			errs[i] = found.known()
		}
	}
	if len(rest) > 0 {
		for i, err := range b.insert(ctx, rest) { // ends with ctx at the latest
			errs[at[i]] = err
		}
	}
	return errs
}

// those reads the rows of these ids that are in the collection, without their data. It takes one round trip: one for
// each, when Clerk delivers hundreds once more, would last longer than Clerk waits.
func (b *Inbox) those(ctx context.Context, rows []row) (map[string]row, error) {
	ids := make([]string, len(rows))
	for i, r := range rows {
		ids[i] = r.ID
	}
	filters := []bson.D{{{Key: "_id", Value: bson.D{{Key: "$in", Value: ids}}}}}
	if b.db.IDs != nil { // FerretDB v1 with an index by _id, which it uses for one at a time, and reads everything for $in
		filters = nil
		for _, id := range ids {
			filters = append(filters, byID(id))
		}
	}
	there := make(map[string]row, len(rows))
	for _, f := range filters {
		cur, err := b.ingress.Find(ctx, f, options.Find().SetProjection(bson.D{{Key: "data", Value: 0}}))
		if err != nil {
			return nil, err
		}
		var found []row
		if err := cur.All(ctx, &found); err != nil {
			return nil, err
		}
		for _, r := range found {
			there[r.ID] = r
		}
	}
	return there, nil
}
