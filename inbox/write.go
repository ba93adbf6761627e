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
)

const (
	// maxInsert and maxInsertBytes bound one insert: FerretDB accepts 1,000 rows, MongoDB 48 MB.
	maxInsert      = 128
	maxInsertBytes = 8 << 20
	// insertTimeout bounds one insert. Together with the wait before it, it stays well within the 15 s for which Clerk
	// waits.
	insertTimeout = 5 * time.Second
	// maxOut is how many events may wait in memory to be sent. Further events wait in the collection.
	maxOut = 1024
)

// put is one call of Put: done gets its result.
type put struct {
	event Event
	done  chan error
}

// Put returns nil when the event is durable. If an event with this ID is in the inbox already, it is the same event,
// which is sent again only if it was a dead letter. After an error the event may be lost and must be delivered again.
func (b *Inbox) Put(ctx context.Context, e Event) error {
	p := &put{event: e, done: make(chan error, 1)}
	select {
	case b.puts <- p:
	case <-ctx.Done():
		return fmt.Errorf("wait for the inbox: %w", ctx.Err())
	}
	select {
	case err := <-p.done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("write to the inbox: %w", ctx.Err())
	}
}

// commit writes the events of puts until ctx ends, as a group commit: while as many inserts run as flow allows, new
// puts wait, and then go into the next insert together. A put that comes while no insert runs is written at once.
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
		runtime.Gosched() // so that other webhooks that are ready go into this insert too
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

// waiting takes a value from c if c has one right now.
func waiting[T any](c <-chan T) (v T, ok bool) {
	select {
	case v, ok = <-c:
	default:
	}
	return v, ok
}

// write inserts a batch, answers each of its puts, and hands the new events to the senders.
func (b *Inbox) write(ctx context.Context, batch []*put) {
	ctx, cancel := context.WithTimeout(ctx, insertTimeout)
	defer cancel()
	// Events that will be sent at once are written as if they were sent already, so that sending them needs no further
	// write. If this process dies before it sends them, they are sent later, under another id.
	direct := !b.away.Load() && b.queued.Load()+int64(len(batch)) <= maxOut
	now := time.Now()
	puts := map[string][]*put{} // by id: two deliveries of a message are the same event
	var rows []row
	var ids []string
	var docs []any
	for _, p := range batch {
		id := p.event.ID
		if puts[id] = append(puts[id], p); len(puts[id]) > 1 {
			continue
		}
		r := newRow(p.event, now)
		r.DueAt = now
		rows, ids = append(rows, r), append(ids, id)
		if direct {
			r.Sends, r.DueAt = 1, now.Add(b.resendInterval(1))
		}
		docs = append(docs, r)
	}
	b.metrics.inserts.Inc()
	// On FerretDB v1, if another insert wrote an equal row in the same millisecond, the row may count as written by
	// both. Then the event is sent twice under one id, and Inngest ignores the second.
	there, errs := b.ingress.InsertOrFind(ctx, ids, docs, "failure")
	var out []row
	for i, err := range errs {
		switch {
		case err == nil:
			b.metrics.written.Inc()
			if direct {
				out = append(out, rows[i])
			}
		case database.IsDuplicate(err):
			err = b.redelivered(ctx, ids[i], there[ids[i]])
		}
		if err != nil {
			err = fmt.Errorf("write to the inbox: %w", err)
		}
		for _, p := range puts[ids[i]] {
			p.done <- err
		}
	}
	if len(out) > 0 {
		b.queued.Add(int64(len(out)))
		select {
		case b.out <- out:
		default: // out is full: the sweep sends them later, under another id
			b.queued.Add(-int64(len(out)))
		}
	}
}

// redelivered deals with an event that was in the inbox before. A dead letter becomes pending again, because whoever
// delivers the event again wants it to be tried again.
func (b *Inbox) redelivered(ctx context.Context, id string, found bson.Raw) error {
	_, err := found.LookupErr("failure")
	switch {
	case found == nil:
		return errVanished
	case err != nil: // it has not failed
		return nil
	}
	err = b.Replay(ctx, id, true)
	switch {
	case errors.Is(err, errPending):
		return nil
	case errors.Is(err, ErrNoDeadLetter):
		return errVanished
	}
	return err
}

// errVanished says that the event's row in the inbox was removed meanwhile. Either a function has cleared it, or the
// clean-up removed it as a dropped dead letter. Nobody can tell which, so the event must be delivered again.
var errVanished = errors.New("the event left the inbox while it was delivered once more")
