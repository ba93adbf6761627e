package clerk_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"

	"clerksync/clerk"
)

// The body of a webhook: what happened, in which instance, to whom.
func ExampleParseEnvelope() {
	event, err := clerk.ParseEnvelope([]byte(`{
		"type": "user.updated", "object": "event", "timestamp": 1767603600018, "instance_id": "ins_2example",
		"data": {"id": "user_2example", "object": "user", "first_name": "Ada"}
	}`))
	if err != nil {
		panic(err)
	}
	fmt.Println(event.Type, event.InstanceID, event.Timestamp.Time())
	// Output: user.updated ins_2example 2026-01-05 09:00:00.018 +0000 UTC
}

// The address of the user is the one that Clerk calls primary. ChangedAt is the newest time anywhere in the user.
func ExampleParseUser() {
	user, err := clerk.ParseUser(json.RawMessage(`{
		"id": "user_2example", "object": "user", "first_name": "Ada", "last_name": "Lovelace",
		"primary_email_address_id": "idn_1",
		"email_addresses": [
			{"id": "idn_2", "email_address": "new@example.com", "created_at": 1767603600018},
			{"id": "idn_1", "email_address": "ada@example.com", "verification": {"status": "verified"}}
		],
		"created_at": 1767600000000, "updated_at": 1767600000000
	}`))
	if err != nil {
		panic(err)
	}
	fmt.Println(user.FullName, user.Email, user.EmailVerified)
	fmt.Println(user.ChangedAt - user.CreatedAt)
	// Output:
	// Ada Lovelace ada@example.com true
	// 3600018
}

// Backup codes never go into a queue, and private metadata only if that is asked for.
func ExampleWithoutSecrets() {
	user := json.RawMessage(`{"id":"user_2a","private_metadata":{"plan":"pro"},"public_metadata":{"theme":"dark"}}`)
	data, err := clerk.WithoutSecrets(user, false)
	if err != nil {
		panic(err)
	}
	fmt.Println(string(data))
	// Output: {"id":"user_2a","public_metadata":{"theme":"dark"}}
}

// All users of an instance, page by page.
func ExampleAPI_ListCreated() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `[{"id":"user_2ada","first_name":"Ada"},{"id":"user_2grace","first_name":"Grace"}]`)
	}))
	defer server.Close()
	api, err := clerk.NewAPI(clerk.APIOptions{SecretKey: "sk_test_example", URL: server.URL, Share: 1})
	if err != nil {
		panic(err)
	}
	for next := ""; ; {
		page, err := api.ListCreated(context.Background(), next)
		if err != nil {
			panic(err)
		}
		for _, user := range page.Users {
			fmt.Println(user.ID, user.FullName)
		}
		if next = page.Next; next == "" {
			return
		}
	}
	// Output:
	// user_2ada Ada
	// user_2grace Grace
}
