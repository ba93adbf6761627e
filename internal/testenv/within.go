package testenv

import (
	"context"
	"testing"
	"time"
)

// Within calls f with a limit of time, and again with twice the limit until f says that it was enough, or until the
// next one would be a minute or more. It is for what a limit has to end, but after something for which a busy machine
// may need longer than a short one.
func Within(t testing.TB, limit time.Duration, f func(ctx context.Context) (enough bool)) {
	t.Helper()
	for enough := false; !enough && limit < time.Minute; limit *= 2 {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		enough = f(ctx)
		cancel()
	}
}
