package adopt

import (
	"fmt"
	"slices"
	"strings"

	"clerksync/store/mapping"
)

// Proposal is a map with its reasons.
type Proposal struct {
	Map       mapping.Map // what the lines that are on say
	Key       string      // why the key is the key
	Lines     []Line      // in the order in which the rows have the fields
	Apps      []string    // fields that stay the app's
	Questions []string    // what only a person can decide; the proposal holds without an answer
	Clashes   []string    // what will refuse writes, and what to do
	Matched   int         // how many sampled rows have a user at Clerk
}

// Line is a line of the map.
type Line struct {
	Field  mapping.Field
	Reason string
	Off    bool // it is only shown: a person has to decide whether it is right
}

// proposer makes a Proposal.
type proposer struct {
	*Collection
	Proposal
	key      *key
	fields   []*field
	evidence *evidence
	rules    schema
}

// propose returns the map for a collection.
func propose(c *Collection, k *key) Proposal {
	p := &proposer{Collection: c, key: k, fields: survey(c.Rows), evidence: gather(c, k)}
	if rules, ok := c.Validator.Lookup("$jsonSchema").DocumentOK(); ok {
		p.rules = schema(rules)
	}
	p.Map = mapping.Map{Collection: c.Name, Key: k.path, State: p.state()}
	p.Matched = p.evidence.users
	p.Key = p.reasonForKey()
	for _, f := range p.fields {
		if p.isOurs(f.path) || f.path == k.path || !mapping.IsPath(f.path) {
			continue
		}
		if line := p.line(f); line != nil && !p.overlaps(f.path) {
			p.onlyOne(line)
			p.Lines = append(p.Lines, *line)
		}
	}
	for _, l := range p.Lines {
		if !l.Off {
			p.Map.Fields = append(p.Map.Fields, l.Field)
		}
	}
	p.apps()
	p.clash()
	return p.Proposal
}

func (p *proposer) ask(format string, args ...any) {
	p.Questions = append(p.Questions, fmt.Sprintf(format, args...))
}

// state returns the field for our own state: the usual one, unless the app has a field of that name.
func (p *proposer) state() string {
	for _, name := range []string{mapping.Default().State, "_clerk", "_clerksync"} {
		isOurs := find(p.fields, name+".synced_at").filled() > 0 && find(p.fields, name+".version").texts() > 0
		if isOurs || find(p.fields, name).values == nil {
			return name
		}
	}
	return "_clerksync_state"
}

// isOurs tells whether a path lies in our own state.
func (p *proposer) isOurs(path string) bool { return within(path, p.Map.State) }

// within tells whether a path is the other or lies inside it.
func within(path, other string) bool { return path == other || strings.HasPrefix(path, other+".") }

// overlaps tells whether a path lies inside a field that another line writes, or around one.
func (p *proposer) overlaps(path string) bool {
	return slices.ContainsFunc(p.Lines, func(l Line) bool {
		return !l.Off && (within(path, l.Field.Path) || within(l.Field.Path, path))
	})
}

func (p *proposer) reasonForKey() string {
	why := fmt.Sprintf("Clerk's id in %d of %d rows", p.key.rows, len(p.Rows))
	if !p.key.doubled() {
		why += ", another in each"
	}
	switch {
	case p.key.unique:
		why += "; your unique index serves"
	case p.key.path != mapping.IDField:
		why += "; clerksync makes its index"
	}
	return why
}

// onlyOne switches off a line that is known by its name alone if another one has the same source: a user may have a
// display name of their own.
func (p *proposer) onlyOne(l *Line) {
	i := slices.IndexFunc(p.Lines, func(o Line) bool { return !o.Off && o.Field.From == l.Field.From })
	if i < 0 || l.Off || p.evidence.users > 0 || !slices.Contains(personal(), l.Field.From) {
		return
	}
	l.Off, l.Reason = true, "by its name alone, see the question"
	p.ask("both %s and %s may be Clerk's %s: which one? With CLERK_SECRET_KEY set, their values tell",
		mapping.Quote(p.Lines[i].Field.Path), mapping.Quote(l.Field.Path), l.Field.From)
}

// apps notes the fields that stay the app's, by the names at the top of the document.
func (p *proposer) apps() {
	ours := p.written()
	for _, f := range p.fields {
		if top, _, _ := strings.Cut(f.path, "."); !slices.Contains(ours, top) && !slices.Contains(p.Apps, top) {
			p.Apps = append(p.Apps, top)
		}
	}
}

// written returns the fields at the top of a document that clerksync writes.
func (p *proposer) written() []string {
	names := []string{p.Map.State, p.key.path}
	if p.key.path != mapping.IDField {
		names = append(names, mapping.IDField)
	}
	for _, f := range p.Map.Fields {
		if top, _, _ := strings.Cut(f.Path, "."); !slices.Contains(names, top) {
			names = append(names, top)
		}
	}
	return names
}
