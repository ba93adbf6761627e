package app

import "context"

// Dev is what 'clerksync dev' adds to the service. With it the service warns of nothing that only matters in
// production.
type Dev struct {
	// Play posts sample webhooks to the URL hook, signed as Clerk's are, for the buttons of the page: "sign-up",
	// "change", "deletion" or "storm". The error is one line that the page can show.
	Play func(ctx context.Context, hook, what string) error
}
