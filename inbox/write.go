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
	// maxInsert and maxInsertBytes bound one insert: FerretDB takes 1,000 rows, MongoDB 48 MB.
	maxInsert      = 128
	maxInsertBytes = 8 << 20
	// insertTimeout bounds one insert. With the wait for its turn it stays well within the 15 s that Clerk waits.
	insertTimeout = 5 * time.Second
	// maxOut is how many events may wait in memory to be sent. What is more waits in the collection.
	maxOut = 1024
)

// put is an event that somebody waits for: done gets the answer.
type put struct {
	event Event
	done  chan error
}

// Put returns nil when the event is durable. An event that is there already, by its ID, is the same event: it is not
// sent again unless it had failed. An error says that the event may be lost and has to be delivered again.
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

// commit writes puts until ctx ends, as a group commit: while as many inserts run as flow allows, new puts wait, and
// then go into the next insert together. A put that comes while nothing runs is written at once.
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
		runtime.Gosched() // so that webhooks which are ready to put go into this insert
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

// waiting takes a value from c if there is one already.
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
	// Events that will be sent at once are written as if they were sent already, so that sending them needs no write of
	// its own. If sending fails, or this process dies before, they are sent later, under another id.
	direct := !b.away.Load() && b.queued.Load()+int64(len(batch)) <= maxOut
	now := time.Now()
	puts := map[string][]*put{} // by id: a redelivery that came meanwhile is the same event
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
	// On FerretDB v1 an equal row of the same millisecond may count as written here. Then the event is sent twice under
	// one id, of which Inngest ignores the second.
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
		default: // they are sent later, under another id
			b.queued.Add(-int64(len(out)))
		}
	}
}

// redelivered is called for an event that was in the inbox before. One that has failed is sent again: whoever delivers
// it once more wants it tried once more.
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

// errVanished says that a row was removed meanwhile: because its event was written, or by the clean-up, as a dropped
// dead letter. There is no telling which, so the event has to be delivered again.
var errVanished = errors.New("the event left the inbox while it was delivered once more")
