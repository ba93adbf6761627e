package bench_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"clerksync/internal/testenv"
	"clerksync/store/embedded"

	"github.com/inngest/inngestgo"
	"github.com/labstack/echo/v4"
	svix "github.com/svix/svix-webhooks/go"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"
)

// childEnv makes the test binary be one of the servers below, so that each is a process of its own.
const childEnv = "CLERKSYNC_BENCH_SERVER"

func TestMain(m *testing.M) {
	name := os.Getenv(childEnv)
	if name == "" {
		os.Exit(m.Run())
	}
	serve := map[string]func() (http.Handler, error){
		"floor": floor, "insert": insert, "plain": plain, "events": events,
		"database": embeddedDatabase, "nothing": nothing,
	}[name]
	h, err := serve()
	if err == nil {
		err = (&http.Server{
			Addr: "127.0.0.1:" + os.Getenv("PORT"), Handler: h,
			ReadHeaderTimeout: 5 * time.Second,
		}).ListenAndServe()
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// child returns the command that makes the test binary one of the servers.
func child(b *testing.B, name string, env ...string) *exec.Cmd {
	b.Helper()
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(env, childEnv+"="+name)
	return cmd
}

// floor reads the body, checks one HMAC and answers: what net/http itself costs.
func floor() (http.Handler, error) { return checking(func(*http.Request, []byte) error { return nil }) }

// insert is the floor and one insert for each webhook, before the answer.
func insert() (http.Handler, error) {
	client, err := mongo.Connect(
		options.Client().ApplyURI(os.Getenv("MONGODB_URI")).SetWriteConcern(writeconcern.Majority()))
	if err != nil {
		return nil, err
	}
	rows := client.Database(os.Getenv("MONGODB_DATABASE")).Collection("webhooks")
	return checking(func(r *http.Request, body []byte) error {
		_, err := rows.InsertOne(r.Context(), bson.D{
			{Key: "_id", Value: r.Header.Get("svix-id")}, {Key: "body", Value: body}, {Key: "at", Value: time.Now()},
		})
		return err
	})
}

func checking(do func(r *http.Request, body []byte) error) (http.Handler, error) {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(testenv.Secret, "whsec_"))
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("POST /webhooks/clerk", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(r.Header.Get("svix-id") + "." + r.Header.Get("svix-timestamp") + "."))
		mac.Write(body)
		got, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(r.Header.Get("svix-signature"), "v1,"))
		switch {
		case !hmac.Equal(got, mac.Sum(nil)):
			w.WriteHeader(http.StatusBadRequest)
		case do(r, body) != nil:
			w.WriteHeader(http.StatusServiceUnavailable)
		default:
			w.WriteHeader(http.StatusAccepted)
		}
	})
	return mux, nil
}

// plain is the usual receiver in Go: Echo, svix's library, and a Send for each webhook. It makes nothing durable.
func plain() (http.Handler, error) {
	wh, err := svix.NewWebhook(testenv.Secret)
	if err != nil {
		return nil, err
	}
	client, err := inngestgo.NewClient(inngestgo.ClientOpts{
		AppID: "plain", Dev: new(false), EventKey: new("bench"), EventAPIBaseURL: new(os.Getenv("INNGEST_BASE_URL")),
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return nil, err
	}
	e := echo.New()
	e.GET("/healthz", func(c echo.Context) error { return c.NoContent(http.StatusOK) })
	e.POST("/webhooks/clerk", func(c echo.Context) error {
		body, err := io.ReadAll(c.Request().Body)
		if err != nil {
			return err
		}
		if err := wh.Verify(body, c.Request().Header); err != nil {
			return c.String(http.StatusBadRequest, err.Error())
		}
		var evt struct {
			Type string         `json:"type"`
			Data map[string]any `json:"data"`
		}
		if err := json.Unmarshal(body, &evt); err != nil {
			return c.String(http.StatusBadRequest, err.Error())
		}
		if _, err := client.Send(c.Request().Context(), inngestgo.Event{
			ID:   new(c.Request().Header.Get("svix-id")),
			Name: "clerk/" + evt.Type, Data: evt.Data,
		}); err != nil {
			return err
		}
		return c.NoContent(http.StatusAccepted)
	})
	return e, nil
}

// events is an Inngest that takes every event, EVENTS_DELAY later, and every checkpoint, and runs nothing. If
// EVENTS_SERVER names one, it takes events for it.
func events() (http.Handler, error) {
	delay, err := time.ParseDuration(os.Getenv("EVENTS_DELAY"))
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex
	seen := map[string]bool{}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("POST /fn/register", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"ok":true}`)
	})
	mux.HandleFunc("POST /v1/checkpoint/{run}/async", func(w http.ResponseWriter, r *http.Request) {
		if n, err := io.Copy(io.Discard, r.Body); err != nil || n == 0 {
			w.WriteHeader(http.StatusBadRequest)
		}
	})
	mux.HandleFunc("GET /count", func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		_, _ = fmt.Fprint(w, len(seen))
	})
	mux.HandleFunc("POST /e/{key}", func(w http.ResponseWriter, r *http.Request) {
		var list []struct {
			ID string `json:"id"`
		}
		body, err := io.ReadAll(r.Body)
		if err == nil && len(body) > 0 && body[0] == '{' {
			body = append(append([]byte{'['}, body...), ']')
		}
		if err := errors.Join(err, json.Unmarshal(body, &list)); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		time.Sleep(delay)
		if server := os.Getenv("EVENTS_SERVER"); server != "" {
			res, err := http.Post(server+r.URL.Path, "application/json", bytes.NewReader(body))
			if err != nil || res.StatusCode != http.StatusOK {
				http.Error(w, "the server does not take them", http.StatusServiceUnavailable)
				return
			}
			_, _ = io.Copy(io.Discard, res.Body)
			_ = res.Body.Close()
		}
		ids := make([]string, len(list))
		mu.Lock()
		for i, e := range list {
			ids[i], seen[e.ID] = e.ID, true
		}
		mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{"ids": ids, "status": 200})
	})
	return mux, nil
}

// embeddedDatabase is the embedded database as a process of its own, and says where it is.
func embeddedDatabase() (http.Handler, error) {
	srv, err := embedded.Start(context.Background(), os.Getenv("DATABASE_DIR"), "127.0.0.1:0",
		slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, srv.URI()) }), nil
}
