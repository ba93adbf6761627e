package app

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"net/http"
	"strings"

	"clerksync/clerk"
	"clerksync/reconcile"

	"github.com/labstack/echo/v4"
	"go.mongodb.org/mongo-driver/v2/bson"
)

// ensureRoute answers POST /users/{id}/ensure with the user's row, for who has the token.
func (a *App) ensureRoute(ensure *reconcile.Ensure) echo.HandlerFunc {
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
