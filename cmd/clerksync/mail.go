package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"clerksync/app"
	"clerksync/config"
	"clerksync/mail"
)

type mailCmd struct {
	Test    mailTest    `cmd:"" help:"Send the welcome mail to an address, by SMTP_URL."`
	Preview mailPreview `cmd:"" help:"Write the welcome mail's HTML to standard output."`
}

type mailTest struct {
	Address string `arg:"" help:"Where to send it."`
}

// Run sends the mail, even to somebody who has had one before.
func (c mailTest) Run(ctx context.Context, e env) error {
	m, err := mailer(e.environ, config.Mail{})
	if err != nil {
		return err
	}
	err = m.Send(ctx, mail.User{ID: "user_test", Email: c.Address, FullName: "Ada Lovelace"}, nil)
	switch {
	case errors.Is(err, mail.ErrPerhapsSent):
		return err
	case mail.Said(err) != "":
		return fmt.Errorf("the mail was not sent: %w; the server said: %s", err, oneLine(mail.Said(err)))
	case err != nil:
		return fmt.Errorf("the mail was not sent: %w", err)
	}
	_, err = fmt.Fprintf(e.stdout, "the SMTP server has taken the mail to %s\n", c.Address)
	return err
}

type mailPreview struct {
	Text bool   `help:"The text part instead."`
	Name string `help:"Full name of the user." default:"Ada Lovelace"`
}

// Run prints the mail, even if SMTP_URL is not set.
func (c mailPreview) Run(e env) error {
	m, err := mailer(e.environ, config.Mail{SMTP: "smtp://localhost", From: "App <hello@app.example>"})
	if err != nil {
		return err
	}
	subject, text, body, err := m.Render(mail.User{ID: "user_test", Email: "ada@example.com", FullName: c.Name})
	if err != nil {
		return err
	}
	if c.Text {
		body = "Subject: " + subject + "\n\n" + text
	}
	_, err = fmt.Fprint(e.stdout, body)
	return err
}

// mailer returns the Mailer for the settings. If the server or the sender is not set, it takes the one in unset.
func mailer(environ []string, unset config.Mail) (*mail.Mailer, error) {
	cfg, mistakes := readSettings(environ)
	if err := mistakes.Err(); err != nil {
		return nil, err
	}
	c := cfg.Mail
	c.SMTP, c.From = cmp.Or(c.SMTP, unset.SMTP), cmp.Or(c.From, unset.From)
	if c.SMTP == "" {
		return nil, errors.New("SMTP_URL is not set: " +
			"set it to smtp://USER:PASSWORD@HOST:587 or smtps://USER:PASSWORD@HOST")
	}
	m, mistakes := app.Mailer(c)
	return m, mistakes.Err()
}
