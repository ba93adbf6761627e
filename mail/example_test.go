package mail_test

import (
	"fmt"

	"clerksync/mail"
)

// The parts of the welcome mail for a user, without a server.
func ExampleMailer_Render() {
	mailer, mistakes := mail.New(mail.Options{
		URL: "smtp://localhost", From: "Acme <hello@acme.example>", AppURL: "https://acme.example",
	})
	if mistakes != nil {
		panic(mistakes)
	}
	subject, text, _, err := mailer.Render(mail.User{ID: "user_2a", Email: "ada@example.com", FullName: "Ada Lovelace"})
	if err != nil {
		panic(err)
	}
	fmt.Println(subject)
	fmt.Println()
	fmt.Print(text)
	// Output:
	// Welcome to Acme
	//
	// Hello Ada,
	//
	// welcome to Acme. Your account is ready.
	//
	// Open Acme: https://acme.example
	//
	// If you have a question, just reply to this mail.
	//
	// Acme
	//
	// --
	// You get this one mail because somebody signed up at Acme with this address.
	// If it was not you, you need not do anything.
}

// New tells all mistakes, by names that the caller gives.
func ExampleNew() {
	_, mistakes := mail.New(mail.Options{
		URL: "smtp://mail.example/inbox", From: "Acme", Names: map[string]string{
			"URL": "SMTP_URL", "From": "MAIL_FROM",
		},
	})
	for _, m := range mistakes {
		fmt.Println(m.Text)
	}
	// Output:
	// SMTP_URL has a path: remove it; a / in the password is written %2F
	// MAIL_FROM is not set to an address: set it to one such as "App <hello@app.example>"
}
