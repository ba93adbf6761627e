package inbox

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"clerksync/store"

	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// commit writes puts until ctx ends: the first that comes at once, and with it all that came while as many inserts were in flight as flow
// allows (a group commit). An idle line waits for nothing.
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
	// Events that will be sent at once are written as sent once, so that the sending needs no write of its own. If it fails, or
	// this process dies first, they are sent later, under another id.
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
			var done, pending bool // somebody who delivers it once more wants it tried once more
			if done, pending, err = b.revive(ctx, r.ID); err == nil && !done && !pending {
				err = errVanished
			}
		default:
			err = store.Redact(err)
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

// stamp returns the time, in milliseconds as the database keeps it, and never the same twice: insertRest knows an insert's rows
// by it.
func (b *Inbox) stamp() time.Time {
	for {
		last := b.stamped.Load()
		if ms := max(time.Now().UnixMilli(), last+1); b.stamped.CompareAndSwap(last, ms) {
			return time.UnixMilli(ms)
		}
	}
}

// errThere says that a row was in the collection before.
var errThere = errors.New("the event is in the inbox already")

// errVanished says that a row was removed meanwhile: a dropped dead letter with its event, by the clean-up, or one that a function has
// just cleared.
var errVanished = errors.New("the event left the inbox while it was delivered once more")

// insert writes all rows in one round trip and returns an error for each that was not written.
func (b *Inbox) insert(ctx context.Context, rows []row) []error {
	errs := make([]error, len(rows))
	b.metrics.inserts.Inc()
	_, err := b.rows.InsertMany(ctx, rows, options.InsertMany().SetOrdered(false))
	if err == nil {
		return errs
	}
	var bulk mongo.BulkWriteException
	refused := errors.As(err, &bulk) && bulk.WriteConcernError == nil && len(bulk.WriteErrors) > 0
	switch {
	case refused && b.db.OneProcess:
		return b.insertRest(ctx, rows)
	case refused:
		for _, we := range bulk.WriteErrors {
			if errs[we.Index] = we; store.IsDuplicate(we) {
				errs[we.Index] = errThere
			}
		}
	default:
		for i := range errs {
			errs[i] = err
		}
	}
	return errs
}

// insertRest goes on where FerretDB v1 stopped, at the first row that was there already; it does not say which one that is.
func (b *Inbox) insertRest(ctx context.Context, rows []row) []error {
	errs := make([]error, len(rows))
	var rest []row
	var at []int // the places of rest in rows
	for i, r := range rows {
		var there row
		err := b.rows.FindOne(ctx, byID(r.ID)).Decode(&there)
		switch {
		case errors.Is(err, mongo.ErrNoDocuments):
			rest, at = append(rest, r), append(at, i)
		case err != nil:
			errs[i] = err
		case !there.ReceivedAt.Equal(r.ReceivedAt): // else it was written before the stop
			errs[i] = errThere
		}
	}
	if len(rest) > 0 {
		for i, err := range b.insert(ctx, rest) { // ends with ctx at the latest
			errs[at[i]] = err
		}
	}
	return errs
}
