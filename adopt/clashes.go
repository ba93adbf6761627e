package adopt

import (
	"fmt"
	"slices"
	"strings"

	"clerksync/store/mapping"

	"go.mongodb.org/mongo-driver/v2/bson"
)

func (p *proposer) warn(format string, args ...any) {
	p.Clashes = append(p.Clashes, fmt.Sprintf(format, args...))
}

// clash notes what will refuse writes of the proposed map, besides what store.Users.Clashes says of the indexes.
func (p *proposer) clash() {
	if p.key.doubled() {
		p.warn("%d rows share an id of Clerk's with another row, and clerksync will not start over them, for it "+
			"merges nobody: clear %s in all but one of each; their _ids: %s",
			p.key.rows-len(p.key.ids), mapping.Quote(p.key.path), list(p.key.doubles(p.Rows), most))
	}
	if p.Capped {
		p.warn("%s is capped: MongoDB removes its oldest rows by itself, and refuses updates that change a row's "+
			"size: copy it to a collection that is not capped", p.Name)
	}
	for _, f := range p.Map.Fields {
		p.unique(f)
	}
	from := len(p.Clashes)
	p.validated()
	for i := from; i < len(p.Clashes) && p.Lenient; i++ {
		p.Clashes[i] += " (the validator only warns)"
	}
	if f := fieldFrom(&p.Map, "primary_email"); f != nil && f.Absent == (mapping.Absent{}) {
		p.withoutAddress(f)
	}
}

// unique notes that users may have the same value in a field with a unique index.
func (p *proposer) unique(f mapping.Field) {
	for _, x := range p.Indexes {
		switch name := mapping.Quote(x.Name); {
		case !x.Unique || !slices.Equal(x.Fields, []string{f.Path}) || f.Unique || f.From == "" || f.From == "id":
		case f.From == "primary_email":
			p.warn("index %s is unique: if Clerk gives an address to a new user while another row still has it, the "+
				"write is tried again until that row has changed; if it does not, a dead letter names both ids", name)
		default:
			p.warn("index %s is unique, but two users may have the same %s: the second is refused; drop the index, "+
				"or the line", name, f.From)
		}
	}
}

// withoutAddress says that a user may have no e-mail address.
func (p *proposer) withoutAddress(f *mapping.Field) {
	who := "Clerk's users may have no e-mail address (phone-only users)"
	if n := p.evidence.match(find(p.fields, f.Path), f.From).lacks; n > 0 {
		who = fmt.Sprintf("%d of %d sampled users have no e-mail address at Clerk (phone-only users)",
			n, p.evidence.users)
	}
	p.warn("%s: their rows do not have %s. If your mongoose model says required: true of it, it refuses to save() "+
		"such a row: remove required", who, mapping.Quote(f.Path))
}

// validated notes what the validator refuses.
func (p *proposer) validated() {
	if elements, _ := p.Validator.Elements(); len(elements) > 1 || len(elements) == 1 && p.rules == nil {
		p.warn("the validator has rules besides $jsonSchema, which are not read here: try one row with 'clerksync " +
			"users ensure ID' before the backfill")
	}
	for _, name := range p.written() {
		if p.rules.closed(name) {
			p.warn("the validator allows no other fields (additionalProperties: false), and not %s: add it to its "+
				"properties", mapping.Quote(name))
		}
	}
	for _, path := range p.rules.required() {
		isWritten := func(f mapping.Field) bool { return within(f.Path, path) }
		if path != mapping.IDField && path != p.key.path && !p.isOurs(path) &&
			!slices.ContainsFunc(p.Map.Fields, isWritten) {
			p.ask("the validator requires %s, which Clerk does not have: what is a new row to get? Add the line %s: "+
				"{value: …, when: create}, or take it out of required", mapping.Quote(path), yamlText(path))
		}
	}
	for _, f := range p.Map.Fields {
		p.validatedField(f)
	}
}

// validatedField notes what the validator refuses in a field that clerksync writes.
func (p *proposer) validatedField(f mapping.Field) {
	s, _ := mapping.LookUp(f.From)
	mayLack := s.Optional && f.From != "image_url" && !f.Unique && f.Absent == mapping.Absent{}
	if mayLack && slices.Contains(p.rules.required(), f.Path) {
		p.warn("the validator requires %s, and Clerk's users may have no %s: such a row is refused; take it out of "+
			"required", mapping.Quote(f.Path), f.From)
	}
	if f.From != "" && p.rules.has(f.Path, "enum", "pattern", "minLength", "maxLength") {
		p.warn("the validator limits the text of %s (enum, pattern or length), which Clerk's %s need not fit",
			mapping.Quote(f.Path), f.From)
	}
}

// schema is what a collection's validator says in $jsonSchema. The empty one allows everything.
// https://www.mongodb.com/docs/manual/reference/operator/query/jsonSchema/
type schema bson.Raw

// at returns what the schema says of a path, or nil.
func (s schema) at(path string) bson.Raw {
	at := bson.Raw(s)
	for name := range strings.SplitSeq(path, ".") {
		at, _ = at.Lookup("properties", name).DocumentOK()
	}
	return at
}

// required returns the fields that every document must have.
func (s schema) required() []string { return texts(bson.Raw(s).Lookup("required")) }

// closed tells whether documents may have no other fields than those that the schema names, and it does not name this
// one.
func (s schema) closed(name string) bool {
	open, isBool := bson.Raw(s).Lookup("additionalProperties").BooleanOK()
	return isBool && !open && s.at(name) == nil
}

// has tells whether the schema limits a path in one of these ways.
func (s schema) has(path string, rules ...string) bool {
	return slices.ContainsFunc(rules, func(rule string) bool { return s.at(path).Lookup(rule).Type != 0 })
}

// texts returns a text, or the texts in a list.
func texts(v bson.RawValue) (all []string) {
	list, _ := v.ArrayOK()
	values, _ := list.Values()
	for _, e := range append(values, v) {
		if s, ok := e.StringValueOK(); ok {
			all = append(all, s)
		}
	}
	return all
}
