package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"clerksync/doctor"
	"clerksync/inbox"
	"clerksync/reconcile"
)

// asJSON is the flag of commands that can print for programs. They print one JSON object, whose fields docs/json.md
// lists; errors stay lines on standard error, and the exit status is the same.
type asJSON struct {
	JSON bool `help:"Print one JSON object instead, for programs."`
}

// json prints a value as one JSON document. Texts in it that others may have written are escaped.
func (e env) json(v any) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return err
	}
	_, err := fmt.Fprint(e.stdout, escaped(b.String(), "\n"))
	return err
}

// eventJSON is an event in the inbox. What is a dead letter has failed_at.
type eventJSON struct {
	ID         string          `json:"id"`
	Event      string          `json:"event"`
	HappenedAt time.Time       `json:"happened_at,omitzero"`
	ReceivedAt time.Time       `json:"received_at,omitzero"`
	Sends      int             `json:"sends"`
	FailedAt   time.Time       `json:"failed_at,omitzero"`
	Function   string          `json:"function,omitempty"`
	Run        string          `json:"run,omitempty"`
	Error      string          `json:"error,omitempty"`
	DroppedAt  time.Time       `json:"dropped_at,omitzero"`
	Bytes      int             `json:"bytes,omitzero"` // of the data; not in a list
	Data       json.RawMessage `json:"data,omitempty"` // what Clerk says of the user, only where it is asked for
}

func newEventJSON(e inbox.Event, f inbox.Failure, receivedAt time.Time, sends int) eventJSON {
	happened := time.Time{}
	if e.TS != 0 {
		happened = inUTC(time.UnixMilli(e.TS))
	}
	return eventJSON{
		ID: e.ID, Event: e.Name, HappenedAt: happened, ReceivedAt: inUTC(receivedAt), Sends: sends,
		FailedAt: inUTC(f.At), Function: f.Function, Run: f.RunID, Error: f.Error, DroppedAt: inUTC(f.DroppedAt),
		Bytes: len(e.Data),
	}
}

// inUTC returns a time in UTC and whole milliseconds, which is what the database keeps.
func inUTC(t time.Time) time.Time { return t.UTC().Truncate(time.Millisecond) }

type deadLettersJSON struct {
	DeadLetters []eventJSON `json:"dead_letters"`
}

// userJSON is what 'users show' knows of a user.
type userJSON struct {
	UserID    string          `json:"user_id"`
	Row       json.RawMessage `json:"row,omitempty"`      // the fields that clerksync writes, as Extended JSON
	AppsOwn   bool            `json:"apps_own,omitempty"` // the row is the app's: clerksync has never written it
	DeletedAt time.Time       `json:"deleted_at,omitzero"`
	Events    []eventJSON     `json:"events"`
	Applied   int             `json:"history_applied"`
	Skipped   int             `json:"history_not_applied"`
}

type doctorJSON struct {
	Failed   int           `json:"failed"`
	Findings []findingJSON `json:"findings"`
}

// findingJSON is a line of 'doctor'. Its level is ok, warn, fail or unchecked.
type findingJSON struct {
	Level string `json:"level"`
	Check string `json:"check"`
	Text  string `json:"text"`
}

func newFindingJSON(f doctor.Finding) findingJSON {
	level := map[doctor.Level]string{doctor.Fail: "fail", doctor.Skip: "unchecked"}[f.Level]
	if level == "" {
		level = string(f.Level)
	}
	return findingJSON{level, f.Check, f.Text}
}

// reconcileJSON is what a run of 'reconcile' has found, after its list of drift.
type reconcileJSON struct {
	DryRun  bool            `json:"dry_run"`
	Ended   bool            `json:"ended"` // false if the run was cut off or has failed
	Found   reconcile.Found `json:"found"`
	Seconds float64         `json:"seconds"`
}

// driftJSON is a difference between a row and Clerk.
type driftJSON struct {
	Kind   string      `json:"kind"`
	UserID string      `json:"user_id"`
	Fields []fieldJSON `json:"fields,omitempty"`
}

// fieldJSON is a field that differs. The values, which are personal data, are there only with --show-values.
type fieldJSON struct {
	Name  string  `json:"name"`
	Row   *string `json:"row,omitempty"`
	Clerk *string `json:"clerk,omitempty"`
}

// driftList prints the JSON object of 'reconcile' while the run goes on, because a list of drift may be as long as that
// of the users.
type driftList struct {
	w      io.Writer
	values bool
	n      int
	err    error
}

// add prints one more drift.
func (l *driftList) add(d reconcile.Drift) {
	out := driftJSON{Kind: string(d.Kind), UserID: d.UserID}
	for _, f := range d.Fields {
		field := fieldJSON{Name: f.Name}
		if l.values {
			field.Row, field.Clerk = &f.Row, &f.Clerk
		}
		out.Fields = append(out.Fields, field)
	}
	before := ",\n    "
	if l.n++; l.n == 1 {
		before = "{\n  \"drift\": [\n    "
	}
	l.print(before, out)
}

// end prints the rest of the object.
func (l *driftList) end(dryRun bool, p reconcile.Progress, ended bool) error {
	before := "\n  ],\n  \"run\": "
	if l.n == 0 {
		before = "{\n  \"drift\": [],\n  \"run\": "
	}
	l.print(before, reconcileJSON{dryRun, ended, p.Found, took(p).Seconds()})
	l.write("\n}\n")
	return l.err
}

func (l *driftList) print(before string, v any) {
	b, err := json.Marshal(v)
	l.err = cmp.Or(l.err, err)
	l.write(before + escaped(string(b), ""))
}

func (l *driftList) write(text string) {
	if l.err == nil {
		_, l.err = io.WriteString(l.w, text)
	}
}
