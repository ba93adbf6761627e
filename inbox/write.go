package inbox

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"clerksync/store/database"
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

// stamp returns the time, in milliseconds as the database keeps it, and never the same twice: Collection.InsertEach
// knows an insert's rows by it.
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
	b.metrics.inserts.Inc()
	ids, docs := make([]string, len(rows)), make([]any, len(rows))
	for i, r := range rows {
		ids[i], docs[i] = r.ID, r
	}
	errs := b.ingress.InsertEach(ctx, ids, docs)
	var again []string
	for i, err := range errs {
		if database.IsDuplicate(err) {
			again = append(again, ids[i])
		}
	}
	there, err := b.ingress.FindMany(ctx, again, "failure")
	for i := range errs {
		switch raw := there[ids[i]]; {
		case !database.IsDuplicate(errs[i]):
		case err != nil:
			errs[i] = err
		case raw == nil:
			errs[i] = errVanished
		default:
			errs[i] = errThere
			if _, notFailed := raw.LookupErr("failure"); notFailed == nil {
				errs[i] = errFailed
			}
		}
	}
	return errs
}
