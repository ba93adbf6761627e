package adopt

import (
	"fmt"
	"slices"

	"clerksync/store/mapping"
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
	p.unique()
	from := len(p.Clashes)
	p.validated()
	for i := from; i < len(p.Clashes) && p.Lenient; i++ {
		p.Clashes[i] += " (the validator only warns)"
	}
	p.withoutAddress()
}

// unique notes that users may have the same value in a field with a unique index.
func (p *proposer) unique() {
	for _, x := range p.Indexes {
		for _, f := range p.Map.Fields {
			switch {
			case !x.Unique || !slices.Equal(x.Fields, []string{f.Path}) || f.Unique || f.From == "" || f.From == "id":
			case f.From == "primary_email":
				p.warn("index %s is unique: if Clerk gives an address to a new user while another row still has it, "+
					"the write is tried again until that row has changed; if it does not, a dead letter names both ids",
					mapping.Quote(x.Name))
			default:
				p.warn("index %s is unique, but two users may have the same %s: the second is refused; drop the "+
					"index, or the line", mapping.Quote(x.Name), f.From)
			}
		}
	}
}

// withoutAddress says that a user may have no e-mail address.
func (p *proposer) withoutAddress() {
	f := fieldFrom(&p.Map, "primary_email")
	if f == nil || f.Absent != (mapping.Absent{}) {
		return
	}
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
	if p.rules.other {
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
	if p.key.path != mapping.IDField && !p.rules.allows(mapping.IDField, "objectId") {
		p.warn("the validator does not allow an ObjectId as _id, which a new row gets")
	}
	if !p.rules.allows(p.Map.State, "object") {
		p.warn("the validator does not allow a document in %s, where clerksync keeps its state", mapping.Quote(p.Map.State))
	}
	for _, f := range p.Map.Fields {
		p.validatedField(f)
	}
}

// validatedField notes what the validator refuses in a field that clerksync writes.
func (p *proposer) validatedField(f mapping.Field) {
	path := mapping.Quote(f.Path)
	s, _ := mapping.LookUp(f.From)
	kind := map[mapping.Kind]string{mapping.Text: "string", mapping.Bool: "bool", mapping.Date: "date"}[f.Kind()]
	mayLack := s.Optional && f.From != "image_url" && !f.Unique && f.Absent == mapping.Absent{}
	if mayLack && p.rules.requires(f.Path) {
		p.warn("the validator requires %s, and Clerk's users may have no %s: such a row is refused; take it out of "+
			"required", path, f.From)
	}
	switch {
	case f.From == "": // the rows have the same value
	case p.rules.has(f.Path, "enum"):
		p.warn("the validator allows only some values of %s (enum), and others may come", path)
	case kind == "string" && p.rules.has(f.Path, "pattern", "minLength", "maxLength"):
		p.warn("the validator limits the text of %s (pattern or length), which Clerk's %s need not fit", path, f.From)
	case kind != "" && !p.rules.allows(f.Path, kind):
		p.warn("the validator does not allow a %s in %s", kind, path)
	case f.Absent.Null && !p.rules.allows(f.Path, "null"):
		p.warn("the validator does not allow null in %s", path)
	}
}
