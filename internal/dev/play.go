package dev

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"clerksync/clerk"

	"golang.org/x/sync/errgroup"
)

const (
	stormUsers  = 10 // of a storm
	stormEvents = 10 // of each of them
	// stormSenders is how many posts of a storm are under way at once: few enough for the embedded database.
	stormSenders = 8
)

// Player posts sample webhooks for the buttons of the page. It is safe for concurrent use.
type Player struct {
	Secret string // signs them

	mu    sync.Mutex
	users []string // those who have signed up and are not deleted
}

// delivery is an event and the svix-id under which it is delivered.
type delivery struct {
	id    string
	event []byte
}

// Play posts to the URL hook: a "sign-up" of a new user, a "change" or the "deletion" of the user who signed up last,
// or a "storm". The error is one line for whoever pressed the button.
func (p *Player) Play(ctx context.Context, hook, what string) error {
	if what == "storm" {
		return p.storm(ctx, hook)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	users, typ, values := p.users, "", map[string]any{}
	switch what {
	case "sign-up":
		typ, users = clerk.UserCreated, append(users, newUser())
	case "change":
		typ, values["last_name"] = clerk.UserUpdated, "King "+strconv.FormatInt(time.Now().Unix()%1e6, 10)
	case "deletion":
		typ = clerk.UserDeleted
	default:
		return fmt.Errorf("there is no sample called %.20q", what)
	}
	if len(users) == 0 {
		return errors.New("nobody has signed up yet, or all are deleted: begin with a sign-up")
	}
	last := len(users) - 1
	event, err := person(time.Now(), typ, users[last], values)
	if err == nil {
		err = p.post(ctx, hook, delivery{MessageID(), event})
	}
	if err != nil {
		return err
	}
	if p.users = users; typ == clerk.UserDeleted {
		p.users = users[:last]
	}
	return nil
}

func newUser() string { return "user_2play" + MessageID()[4:26] }

// person returns an event about a sample user whose address nobody else has.
func person(at time.Time, typ, userID string, values map[string]any) ([]byte, error) {
	values["id"] = userID
	if typ != clerk.UserDeleted {
		address := map[string]any{
			"id": "idn_" + userID, "object": "email_address", "verification": map[string]any{"status": "verified"},
			"email_address": strings.ToLower(userID[10:18]) + "@example.com",
		}
		values["email_addresses"], values["primary_email_address_id"] = []any{address}, address["id"]
	}
	return sampleAt(at, typ, "ada", values)
}

// storm posts 100 events about ten users, each twice and all in random order: sign-ups, changes and, for every second
// user, the deletion.
func (p *Player) storm(ctx context.Context, hook string) error {
	var all []delivery
	at := time.Now().Add(-stormUsers * stormEvents * 10 * time.Millisecond)
	for u := range stormUsers {
		user := newUser()
		for n := range stormEvents {
			typ := clerk.UserUpdated
			switch {
			case n == 0:
				typ = clerk.UserCreated
			case n == stormEvents-1 && u%2 == 1:
				typ = clerk.UserDeleted
			}
			at = at.Add(10 * time.Millisecond)
			values := map[string]any{}
			if typ != clerk.UserDeleted {
				values["last_name"] = fmt.Sprintf("Storm %d of %d", n+1, stormEvents)
			}
			event, err := person(at, typ, user, values)
			if err != nil {
				return err
			}
			d := delivery{MessageID(), event}
			all = append(all, d, d)
		}
	}
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] }) //nolint:gosec // G404: no secret
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(stormSenders)
	for _, d := range all {
		g.Go(func() error { return p.post(ctx, hook, d) })
	}
	return g.Wait()
}

const (
	// tries is how often a webhook is posted that is answered 503, which means that Clerk is to send it again. The
	// second delivery of an event is answered so if its row is written at the same moment.
	tries   = 5
	nextTry = 200 * time.Millisecond
)

// post posts one webhook, again if need be. The error is one line.
func (p *Player) post(ctx context.Context, hook string, d delivery) error {
	for try := 1; ; try++ {
		status, text, err := Post(ctx, hook, p.Secret, d.id, d.event)
		switch {
		case err != nil:
			return fmt.Errorf("the webhook could not be posted: %w", err)
		case status == http.StatusAccepted:
			return nil
		case status != http.StatusServiceUnavailable || try == tries:
			return fmt.Errorf("the webhook was answered %d %s", status, text)
		}
		select {
		case <-time.After(nextTry):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
