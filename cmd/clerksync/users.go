package main

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"clerksync/config"

	"clerksync/clerk"
	"clerksync/reconcile"
	"clerksync/store"

	"github.com/labstack/echo/v4"
	"go.mongodb.org/mongo-driver/v2/bson"
)

type usersCmd struct {
	Ensure  usersEnsure  `cmd:"" help:"Print a user's row; if there is none, fetch the user from Clerk and write it. Sends no events."`
	Restore usersRestore `cmd:"" help:"Bring back a user whom Clerk has although there is a tombstone. Sends no events."`
}

type usersEnsure struct {
	ID string `arg:"" help:"Clerk's id of the user (user_…)."`
}

// Run prints the row.
func (c usersEnsure) Run(ctx context.Context, e env) error {
	cfg, err := readConfigForCommand(e.environ)
	if err != nil {
		return err
	}
	api, err := clerkAPI(cfg)
	if err != nil {
		return err
	}
	db, err := openDatabase(ctx, cfg, logger(cfg, e.stderr))
	if err != nil {
		return err
	}
	return errors.Join(c.run(ctx, e, cfg, api, db), db.close(ctx))
}

func (c usersEnsure) run(ctx context.Context, e env, cfg config.Config, api *clerk.API, db *database) error {
	if err := errors.Join(db.prepare(ctx), checkInstance(ctx, cfg, api, db, false)); err != nil {
		return err
	}
	ensure := &reconcile.Ensure{API: api, Users: store.NewUsers(db.DB)}
	r, err := ensure.Row(ctx, c.ID)
	switch {
	case errors.Is(err, reconcile.ErrDeleted):
		return fmt.Errorf("%s: %w, and stays so; if Clerk has the user: clerksync users restore %s", c.ID, err, c.ID)
	case errors.Is(err, clerk.ErrNoUser):
		return fmt.Errorf("%s: %w: check the id, and that CLERK_SECRET_KEY is of its instance", c.ID, err)
	case err != nil:
		return err
	}
	text, err := rowText(r)
	if err == nil {
		_, err = fmt.Fprintln(e.stdout, text)
	}
	return err
}

// rowText prints a row as docs/your-app.md shows it.
func rowText(r store.Row) (string, error) {
	b, err := bson.MarshalExtJSONIndent(r, false, false, "", "  ")
	return string(b), err
}

// ensureRoute answers POST /users/{id}/ensure with the user's row, for who has the token.
func (a *app) ensureRoute(ensure *reconcile.Ensure) echo.HandlerFunc {
	want := sha256.Sum256([]byte(a.cfg.AdminToken))
	return func(c echo.Context) error {
		token, ok := strings.CutPrefix(c.Request().Header.Get("Authorization"), "Bearer ")
		if got := sha256.Sum256([]byte(token)); !ok || subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
			c.Response().Header().Set("WWW-Authenticate", "Bearer")
			return c.JSON(http.StatusUnauthorized, failed("the bearer token is not ADMIN_TOKEN"))
		}
		r, err := ensure.Row(c.Request().Context(), c.Param("id"))
		switch {
		case errors.Is(err, reconcile.ErrDeleted):
			return c.JSON(http.StatusGone, failed(err.Error()))
		case errors.Is(err, clerk.ErrNoUser):
			return c.JSON(http.StatusNotFound, failed(err.Error()))
		case err != nil:
			a.log.WarnContext(c.Request().Context(), "a user could not be ensured", "error", err)
			c.Response().Header().Set("Retry-After", "5")
			return c.JSON(http.StatusServiceUnavailable, failed("the database or Clerk does not answer: ask again"))
		}
		b, err := bson.MarshalExtJSON(r, false, false)
		if err != nil {
			return err
		}
		return c.JSONBlob(http.StatusOK, b)
	}
}

func failed(why string) map[string]string { return map[string]string{"error": why} }
