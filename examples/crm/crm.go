// Package crm is an example of a function of your own: each user that signs up becomes a contact in a CRM. See
// docs/your-own-function.md.
package crm

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"clerksync/functions"
)

// AddContact returns the function. It posts to url + "/contacts".
func AddContact(url, key string) functions.Function {
	return functions.Function{
		ID:     "add-crm-contact",
		Name:   "Add a new user to the CRM",
		Events: []string{"clerk/user.created"},
		Run: func(ctx context.Context, e functions.Event) (any, error) {
			u, err := e.User()
			if err != nil {
				return nil, err
			}
			if u.Email == "" {
				return "skipped: no address", nil
			}
			body, err := json.Marshal(map[string]string{"email": u.Email, "name": u.FullName})
			if err != nil {
				return nil, err
			}
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/contacts", bytes.NewReader(body))
			if err != nil {
				return nil, err
			}
			req.Header.Set("Authorization", "Bearer "+key)
			req.Header.Set("Content-Type", "application/json")
			req.Header.Set("Idempotency-Key", e.MessageID) // the same in every retry: the CRM makes one contact
			res, err := (&http.Client{}).Do(req)           // ctx ends it
			if err != nil {
				return nil, fmt.Errorf("the CRM cannot be reached: %w", err)
			}
			defer res.Body.Close()
			switch {
			case res.StatusCode < 300:
				e.Log.InfoContext(ctx, "added a contact", "user_id", u.ID)
				return map[string]string{"user_id": u.ID}, nil
			case res.StatusCode < 500 && res.StatusCode != http.StatusTooManyRequests:
				// a dead letter
				return nil, functions.NoRetry(fmt.Errorf("the CRM refused the contact: %d", res.StatusCode))
			}
			return nil, fmt.Errorf("the CRM answered %d", res.StatusCode) // Inngest tries again
		},
	}
}
