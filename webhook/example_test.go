package webhook_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"time"

	"clerksync/inbox"
	"clerksync/webhook"

	"github.com/prometheus/client_golang/prometheus"
	svix "github.com/svix/svix-webhooks/go"
)

// A webhook is signed as Svix does it, and answered 202 after it is in the inbox.
func Example() {
	const secret = "whsec_Y2xlcmtzeW5jIHRlc3Qgc2VjcmV0IDE="
	handler, err := webhook.New(webhook.Options{
		Secrets: []string{secret}, Forward: []string{"user.*"},
		Put: func(_ context.Context, e inbox.Event) error {
			fmt.Println("durable:", e.ID, e.Name, string(e.Data))
			return nil
		},
		Log: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
	})
	if err != nil {
		panic(err)
	}

	body := `{"type":"user.created","data":{"id":"user_2a","private_metadata":{"plan":"pro"}}}`
	signer, err := svix.NewWebhook(secret)
	if err != nil {
		panic(err)
	}
	now := time.Now()
	signature, err := signer.Sign("msg_2a", now, []byte(body))
	if err != nil {
		panic(err)
	}
	for _, signature := range []string{signature, "v1,bm9ib2R5"} {
		req := httptest.NewRequest(http.MethodPost, "/webhooks/clerk", strings.NewReader(body))
		req.Header.Set("svix-id", "msg_2a")
		req.Header.Set("svix-timestamp", strconv.FormatInt(now.Unix(), 10))
		req.Header.Set("svix-signature", signature)
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, req)
		fmt.Println("answer:", answer.Code)
	}
	// Output:
	// durable: msg_2a clerk/user.created {"id":"user_2a"}
	// answer: 202
	// answer: 400
}
