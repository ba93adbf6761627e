// Package firstrequest gives each request of a signed-in user the user's row, from the first request on, which is often
// faster than Clerk's webhook. Copy this file into your app:
//
//	rows := &firstrequest.Rows{
//		Users:  client.Database("clerksync").Collection("users"),
//		UserID: func(r *http.Request) string { // behind clerkhttp.WithHeaderAuthorization()
//			if claims, ok := clerk.SessionClaimsFromContext(r.Context()); ok {
//				return claims.Subject
//			}
//			return ""
//		},
//		URL: os.Getenv("CLERKSYNC_URL"), Token: os.Getenv("ADMIN_TOKEN"), Log: slog.Default(),
//	}
//	mux.Handle("GET /me", rows.Require(http.HandlerFunc(me)))
package firstrequest

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"golang.org/x/sync/singleflight"
)

const (
	timeout    = 10 * time.Second // for clerksync; it goes on without us, and the next request finds the row
	absentFor  = time.Minute      // as long as the session token of a deleted user is valid
	absentMost = 10_000           // users
)

// Rows reads the rows of signed-in users. It is safe for concurrent use. Set its fields before the first request.
type Rows struct {
	Users  *mongo.Collection
	Key    string                     // the field that holds Clerk's id; "" means _id
	UserID func(*http.Request) string // Clerk's id of the signed-in user; "" means that nobody is signed in
	URL    string                     // of clerksync, such as http://clerksync:3000
	Token  string                     // its ADMIN_TOKEN
	Log    *slog.Logger               // of why a row cannot be had

	client http.Client
	asking singleflight.Group
	mu     sync.Mutex
	absent map[string]time.Time // by user id: until when clerksync is not asked again
}

type rowKey struct{}

// Row returns the row of the user whose request has this context, behind Require. Decode it with bson.Unmarshal.
func Row(ctx context.Context) bson.Raw {
	row, _ := ctx.Value(rowKey{}).(bson.Raw)
	return row
}

// Require gives next the requests of users who have a row. It answers 401 if nobody is signed in, 403 if Clerk no
// longer has the user, and 503 if the row cannot be had now.
func (rs *Rows) Require(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := rs.UserID(r)
		if id == "" {
			http.Error(w, "sign in", http.StatusUnauthorized)
			return
		}
		row, err := rs.find(r.Context(), id)
		switch {
		case errors.Is(err, errAbsent):
			http.Error(w, "there is no such user", http.StatusForbidden)
		case err != nil:
			rs.Log.ErrorContext(r.Context(), "the user's row cannot be had", "error", err)
			w.Header().Set("Retry-After", "5")
			http.Error(w, "try again in some seconds", http.StatusServiceUnavailable)
		default:
			next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), rowKey{}, row)))
		}
	})
}

var errAbsent = errors.New("no such user at Clerk")

// find returns the user's row. If there is none, it makes clerksync write one first.
func (rs *Rows) find(ctx context.Context, id string) (bson.Raw, error) {
	key := cmp.Or(rs.Key, "_id")
	row, err := rs.Users.FindOne(ctx, bson.M{key: id}).Raw()
	if !errors.Is(err, mongo.ErrNoDocuments) {
		return row, err
	}
	if err := rs.ensure(ctx, id); err != nil {
		return nil, err
	}
	row, err = rs.Users.FindOne(ctx, bson.M{key: id}).Raw()
	if errors.Is(err, mongo.ErrNoDocuments) {
		return nil, fmt.Errorf("clerksync has the row, but %s does not find it by %s", rs.Users.Name(), key)
	}
	return row, err
}

// ensure makes clerksync write the user's row, by one request at a time for each user, however many wait for it.
func (rs *Rows) ensure(ctx context.Context, id string) error {
	rs.mu.Lock()
	until := rs.absent[id]
	rs.mu.Unlock()
	if time.Now().Before(until) {
		return errAbsent
	}
	done := rs.asking.DoChan(id, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeout) // others wait for it too
		defer cancel()
		err := rs.ask(ctx, id)
		if errors.Is(err, errAbsent) {
			rs.remember(id)
		}
		return nil, err
	})
	select {
	case res := <-done:
		return res.Err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// remember keeps clerksync from being asked for a user who is absent. If there are too many, it forgets any other.
func (rs *Rows) remember(id string) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if rs.absent == nil {
		rs.absent = map[string]time.Time{}
	}
	for other := range rs.absent {
		if len(rs.absent) < absentMost {
			break
		}
		delete(rs.absent, other)
	}
	rs.absent[id] = time.Now().Add(absentFor)
}

func (rs *Rows) ask(ctx context.Context, id string) error {
	code, body, after, err := rs.post(ctx, id)
	if err == nil && code == http.StatusServiceUnavailable {
		select {
		case <-time.After(after):
			code, body, _, err = rs.post(ctx, id)
		case <-ctx.Done():
		}
	}
	switch {
	case err != nil:
		return fmt.Errorf("clerksync does not answer: %w", err)
	case code == http.StatusOK:
		return nil
	// Another server's 404 says nothing about the user, and has no error in JSON.
	case (code == http.StatusNotFound || code == http.StatusGone) && bytes.HasPrefix(body, []byte(`{"error"`)):
		return errAbsent
	case code == http.StatusServiceUnavailable:
		return errors.New("clerksync answers 503")
	}
	return fmt.Errorf("clerksync answers %d: check its URL and ADMIN_TOKEN, here and there", code)
}

// post asks clerksync once, and returns how long to wait before it is asked again, too.
func (rs *Rows) post(ctx context.Context, id string) (code int, body []byte, after time.Duration, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, rs.URL+"/users/"+url.PathEscape(id)+"/ensure", nil)
	if err != nil {
		return 0, nil, 0, err
	}
	req.Header.Set("Authorization", "Bearer "+rs.Token)
	res, err := rs.client.Do(req)
	if err != nil {
		return 0, nil, 0, err
	}
	defer res.Body.Close()
	body, err = io.ReadAll(io.LimitReader(res.Body, 1<<20))
	seconds, _ := strconv.Atoi(res.Header.Get("Retry-After"))
	return res.StatusCode, body, time.Duration(min(cmp.Or(max(0, seconds), 1), 5)) * time.Second, err
}
