package app

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"clerksync/clerk"
	"clerksync/inngest"
	"clerksync/reconcile"
	"clerksync/status"
	"clerksync/webhook"

	"github.com/labstack/echo/v4"
	"go.mongodb.org/mongo-driver/v2/bson"
)

// routes returns the handler of all requests. hook answers Clerk's, and a.inngest answers Inngest's.
func (a *App) routes(
	hook http.Handler, server inngest.Server, ensure *reconcile.Ensure, page *status.Page,
) http.Handler {
	e := echo.New()
	e.IPExtractor = echo.ExtractIPDirect()
	e.GET("/", func(c echo.Context) error { return c.String(http.StatusOK, "server is running") })
	e.GET("/healthz", func(c echo.Context) error { return c.String(http.StatusOK, "ok") })
	e.GET("/readyz", func(c echo.Context) error { return a.ready(c, server) })
	if a.metricsListener == nil {
		e.GET("/metrics", echo.WrapHandler(a.metrics.handler()))
	}
	e.POST(webhook.Path, echo.WrapHandler(boundMemory(hook, largeWebhooks)))
	methods := []string{http.MethodGet, http.MethodPost, http.MethodPut}
	// No browser calls the functions, but a page that a developer has open could: a dev server's calls are not signed.
	calls := http.NewCrossOriginProtection().Handler(boundMemory(a.traces.called(a.inngest), largeCalls))
	e.Match(methods, "/api/inngest", echo.WrapHandler(calls))
	a.devRoutes(e)
	if a.cfg.AdminToken != "" {
		e.POST("/users/:id/ensure", func(c echo.Context) error { return a.ensureUser(c, ensure) })
	}
	if page != nil {
		e.Any(status.Path, echo.WrapHandler(page))
		e.Any(status.Path+"/*", echo.WrapHandler(page))
	}
	return e
}

// ready answers 200 if the database answers and Inngest can be reached, otherwise 503. The body says which of them
// fails, and whether webhooks are missing. Missing webhooks alone do not cause a 503, because another process would not
// get them either.
func (a *App) ready(c echo.Context, server inngest.Server) error {
	ctx, cancel := context.WithTimeout(c.Request().Context(), 3*time.Second)
	defer cancel()
	state := map[string]string{"database": "ok", "inngest": "ok", "webhooks": "ok"}
	code := http.StatusOK
	if alarm := a.watch.Alarm(); alarm != "" {
		state["webhooks"] = alarm
	}
	if a.db.Ping(ctx) != nil {
		state["database"], code = "does not answer", http.StatusServiceUnavailable
	}
	if server.Reach(ctx) != nil {
		state["inngest"], code = "cannot be reached", http.StatusServiceUnavailable
	}
	return c.JSON(code, state)
}

// ensureUser answers POST /users/{id}/ensure with the user's row, if the request has the token.
func (a *App) ensureUser(c echo.Context, ensure *reconcile.Ensure) error {
	token, ok := strings.CutPrefix(c.Request().Header.Get("Authorization"), "Bearer ")
	if !ok || !status.IsToken(token, a.cfg.AdminToken) {
		c.Response().Header().Set("WWW-Authenticate", "Bearer")
		return failed(c, http.StatusUnauthorized, "the bearer token is not ADMIN_TOKEN")
	}
	if ensure.API == nil {
		return failed(c, http.StatusNotImplemented, "only Clerk knows the user: set CLERK_SECRET_KEY")
	}
	row, err := ensure.Row(c.Request().Context(), c.Param("id"))
	switch {
	case errors.Is(err, reconcile.ErrDeleted):
		return failed(c, http.StatusGone, err.Error())
	case errors.Is(err, clerk.ErrNoUser):
		return failed(c, http.StatusNotFound, err.Error())
	case err != nil:
		a.log.WarnContext(c.Request().Context(), "a user could not be ensured", "error", err)
		c.Response().Header().Set("Retry-After", "5")
		return failed(c, http.StatusServiceUnavailable, "the database or Clerk does not answer: ask again")
	}
	b, err := bson.MarshalExtJSON(row.Doc, false, false)
	if err != nil {
		return err
	}
	return c.JSONBlob(http.StatusOK, b)
}

func failed(c echo.Context, status int, why string) error {
	return c.JSON(status, map[string]string{"error": why})
}
