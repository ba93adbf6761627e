package functions_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"

	"clerksync/functions"
)

// A function of the app is a value, and its Run can be called in a test. See docs/your-own-function.md.
func ExampleFunction() {
	greet := functions.Function{
		ID:     "greet-in-chat",
		Name:   "Greet a new user in the chat",
		Events: []string{"clerk/user.created"},
		Run: func(ctx context.Context, e functions.Event) (any, error) {
			u, err := e.User()
			if err != nil {
				return nil, err // it is not tried again
			}
			if u.FullName == "" {
				return nil, functions.NoRetry(fmt.Errorf("%s has no name", u.ID))
			}
			fmt.Printf("posted as %s: Welcome, %s!\n", e.MessageID, u.FullName) // to the chat, really
			e.Log.InfoContext(ctx, "greeted", "user_id", u.ID)
			return map[string]string{"user_id": u.ID}, nil
		},
	}

	result, err := greet.Run(context.Background(), functions.Event{
		MessageID: "msg_1",
		Data:      json.RawMessage(`{"object":"user","id":"user_a","first_name":"Ada","last_name":"Lovelace"}`),
		Log:       slog.New(slog.DiscardHandler),
	})
	fmt.Println(result, err)
	// Output:
	// posted as msg_1: Welcome, Ada Lovelace!
	// map[user_id:user_a] <nil>
}
