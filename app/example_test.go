package app_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"

	"clerksync/app"
	"clerksync/config"
	"clerksync/store/mapping"
)

// The service, on the embedded database and on any free port.
func Example() {
	dir, err := os.MkdirTemp("", "clerksync")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	cfg, mistakes := config.Read([]string{
		"CLERK_WEBHOOK_SIGNING_SECRET=whsec_Y2xlcmtzeW5jIGV4YW1wbGUgc2VjcmV0", "MONGODB_URI=embedded:" + dir,
		"HOST=127.0.0.1", "PORT=0", "EMBEDDED_PORT=0", "INNGEST_DEV=1",
	}, nil)
	if err := append(mistakes, app.Check(cfg)...).Err(); err != nil {
		panic(err) // a line for each mistake
	}
	ctx, stop := context.WithCancel(context.Background())
	a, err := app.New(ctx, app.Options{Config: cfg, Map: mapping.Default(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		panic(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	res, err := http.Get(a.URL() + "/healthz")
	if err != nil {
		panic(err)
	}
	defer res.Body.Close()
	stop()
	fmt.Println(res.Status, <-ended)
	// Output: 200 OK <nil>
}
