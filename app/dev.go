package app

import (
	"context"
	"net/http"

	"clerksync/activity"
	"clerksync/store"

	"github.com/labstack/echo/v4"
)

// Dev is what 'clerksync dev' adds to the service. With it the service warns of nothing that only matters in
// production.
type Dev struct {
	// Play posts sample webhooks to the URL hook, signed as Clerk's are, for the buttons of the page: "sign-up",
	// "change", "deletion" or "storm". The error is one line that the page can show.
	Play func(ctx context.Context, hook, what string) error
	// Routes returns what answers the requests under /dev/.
	Routes func(*activity.Activity, *store.Users) http.Handler
}

func (a *App) devRoutes(e *echo.Echo) {
	if a.dev != nil {
		e.GET("/dev/*", echo.WrapHandler(a.dev.Routes(a.activity, a.users)))
	}
}
