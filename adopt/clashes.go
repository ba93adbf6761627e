package adopt

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"clerksync/store/database"
	"clerksync/store/mapping"
)

func (p *proposer) warn(format string, args ...any) {
	p.Clashes = append(p.Clashes, fmt.Sprintf(format, args...))
}

// clash notes what will refuse writes of the proposed map.
func (p *proposer) clash() {
	if p.key.doubled() {
		p.warn("%d rows share an id of Clerk's with another row, and clerksync will not start over them, for it "+
			"merges "+
			"nobody: clear %s in all but one of each; their _ids: %s", p.key.rows-len(p.key.ids), show(p.key.path),
			list(p.key.doubles(p.Rows)))
	}
	if p.Capped {
		p.warn("%s is capped: MongoDB removes its oldest rows by itself, and refuses updates that change a row's "+
			"size: "+
			"copy it to a collection that is not capped", p.Name)
	}
	for _, index := range p.Indexes {
		if index.Unique && !slices.Equal(index.Fields, []string{mapping.IDField}) {
			p.index(index)
		}
	}
	p.validated()
	p.withoutAddress()
}

// withoutAddress says that a user may have no e-mail address.
func (p *proposer) withoutAddress() {
	line := p.lineFrom("primary_email")
	if line == nil || line.Absent.Text != nil || line.Absent.Null {
		return
	}
	who := "Clerk's users may have no e-mail address (phone-only users)"
	if n := p.evidence.match(p.byPath(line.Path), "primary_email").lacks; n > 0 {
		who = fmt.Sprintf("%d of %d sampled users have no e-mail address at Clerk (phone-only users)",
			n, p.evidence.users)
	}
	p.warn("%s: their rows do not have %s. If your mongoose model says required: true of it, it refuses to save() "+
		"such a "+
		"row: remove required", who, show(line.Path))
}

func (p *proposer) lineFrom(source string) *mapping.Field {
	for i := range p.Map.Fields {
		if p.Map.Fields[i].From == source {
			return &p.Map.Fields[i]
		}
	}
	return nil
}

func (p *proposer) byPath(path string) *field {
	for _, f := range p.fields {
		if f.path == path {
			return f
		}
	}
	return &field{path: path}
}

func (p *proposer) mapped(path string) *mapping.Field {
	for i := range p.Map.Fields {
		if p.Map.Fields[i].Path == path {
			return &p.Map.Fields[i]
		}
	}
	return nil
}

// index notes what a unique index of the app refuses.
func (p *proposer) index(x database.IndexInfo) {
	name, whole := show(x.Name), !x.Sparse && !x.Partial
	if len(x.Fields) != 1 {
		if whole && !slices.Contains(x.Fields, p.key.path) {
			p.warn("index %s (%s) is unique: new rows whose values for all of these are absent or equal are refused "+
				"from "+
				"the second on", name, list(x.Fields))
		}
		return
	}
	path := x.Fields[0]
	mend := "make it partial, in mongosh: " + p.partial(x)
	f := p.mapped(path)
	switch {
	case path == p.key.path && whole && p.key.rows < len(p.Rows)-1:
		p.warn("index %s is unique and neither sparse nor partial, so only one row may be without %s: %s", name,
			show(path), mend)
	case path == p.key.path:
	case f == nil && whole:
		p.warn("index %s is unique and neither sparse nor partial, and clerksync does not write %s: the second new "+
			"row is "+
			"refused; %s", name, show(path), mend)
	case f == nil:
	case f.From == "primary_email":
		p.warn("index %s is unique: if Clerk gives an address to a new user while another row still has it, the "+
			"write is "+
			"tried again until that row has changed; if it does not, a dead letter names both ids", name)
		if whole {
			p.warn("index %s is neither sparse nor partial: the second user without an e-mail address is refused; %s",
				name,
				mend)
		}
	case f.Unique:
		if without := len(p.Rows) - p.byPath(path).filled(); whole && without > 0 {
			p.warn("index %s is neither sparse nor partial: only one row may be without %s; %s", name, show(path), mend)
		}
	case f.From == "" || f.From == mapping.Now:
		p.warn("index %s is unique, but %s gets the same in each new row: drop it, or the line", name, show(path))
	default:
		p.warn("index %s is unique, but two users may have the same %s at Clerk: the second is refused; drop the "+
			"index, or "+
			"the line", name, f.From)
		if s, _ := mapping.LookUp(f.From); s.Optional && whole {
			p.warn("index %s is neither sparse nor partial: the second user without %s is refused; %s",
				name, f.From, mend)
		}
	}
}

// partial returns the commands that make an index partial, so that rows without the field do not clash.
func (p *proposer) partial(x database.IndexInfo) string {
	path := x.Fields[0]
	filter := `{$exists: true}`
	if f := p.byPath(path); f.texts() > 0 || p.mapped(path) != nil || path == p.key.path {
		filter = `{$gt: ""}`
	}
	at := "db.getCollection(" + strconv.Quote(p.Name) + ")"
	return fmt.Sprintf("%s.dropIndex(%s); %s.createIndex({%s: 1}, "+
		"{name: %s, unique: true, partialFilterExpression: {%s: %s}})",
		at, strconv.Quote(x.Name), at, strconv.Quote(path), strconv.Quote(x.Name), strconv.Quote(path), filter)
}

// validated notes what the validator refuses.
func (p *proposer) validated() {
	if p.Validator == nil {
		return
	}
	from := len(p.Clashes)
	if p.rules.other {
		p.warn("the validator has rules besides $jsonSchema, which are not read here: try one row with 'clerksync " +
			"users ensure ID' before the backfill")
	}
	if p.rules.schema != nil {
		for _, name := range p.written() {
			if p.rules.closed(name) {
				p.warn("the validator allows no other fields (additionalProperties: false), and not %s: add it to its "+
					"properties", show(name))
			}
		}
		for _, path := range p.rules.required() {
			p.requiredField(path)
		}
		p.types()
	}
	if p.Lenient {
		for i := from; i < len(p.Clashes); i++ {
			p.Clashes[i] += " (the validator only warns)"
		}
	}
}

// written returns the fields at the top of a document that clerksync writes.
func (p *proposer) written() []string {
	names := []string{p.Map.State}
	for _, f := range append([]mapping.Field{{Path: p.key.path}, {Path: mapping.IDField}}, p.Map.Fields...) {
		if top, _, _ := strings.Cut(f.Path, "."); !slices.Contains(names, top) {
			names = append(names, top)
		}
	}
	return names
}

// requiredField notes what happens to a path that each document must have.
func (p *proposer) requiredField(path string) {
	if path == mapping.IDField || path == p.key.path || p.isOurs(path) {
		return
	}
	f := p.mapped(path)
	below := slices.ContainsFunc(p.Map.Fields, func(f mapping.Field) bool {
		return strings.HasPrefix(f.Path, path+".")
	})
	switch {
	case below:
	case f == nil:
		p.ask("the validator requires %s, which Clerk does not have: what is a new row to get? Add the line %s: "+
			"{value: …, "+
			"when: create}, or take it out of required", show(path), yamlText(path))
	case f.From != "" && !f.Unique && f.Absent.Text == nil && !f.Absent.Null:
		if s, _ := mapping.LookUp(f.From); s.Optional && f.From != "image_url" {
			p.warn("the validator requires %s, and Clerk's users may have no %s: such a row is refused; take it out "+
				"of "+
				"required", show(path), f.From)
		}
	}
}

// types notes the fields to which the validator does not allow what clerksync writes.
func (p *proposer) types() {
	if p.key.path != mapping.IDField && !p.rules.allows(mapping.IDField, "objectId") {
		p.warn("the validator does not allow an ObjectId as _id, which a new row gets")
	}
	if !p.rules.allows(p.Map.State, "object") {
		p.warn("the validator does not allow a document in %s, where clerksync keeps its state", show(p.Map.State))
	}
	for _, f := range p.Map.Fields {
		kind := ""
		switch f.Value.(type) {
		case string:
			kind = "string"
		case bool:
			kind = "bool"
		case int32:
			kind = "int"
		case float64:
			kind = "double"
		}
		if s, ok := mapping.LookUp(f.From); ok {
			kind = map[mapping.Kind]string{mapping.Text: "string", mapping.Bool: "bool", mapping.Date: "date"}[s.Kind]
		}
		schema, ok := p.rules.at(f.Path)
		switch isConstant := f.From == ""; {
		case !ok || kind == "":
		case hasKey(schema, "enum"):
			text, isText := f.Value.(string)
			if isConstant && isText && slices.Contains(texts(schema.Lookup("enum")), text) {
				continue
			}
			p.warn("the validator allows only some values of %s (enum), and others may come", show(f.Path))
		case kind == "string" && !isConstant && (hasKey(schema, "pattern") || hasKey(schema, "minLength") ||
			hasKey(schema, "maxLength")):
			p.warn("the validator limits the text of %s (pattern or length), which Clerk's %s need not fit",
				show(f.Path),
				f.From)
		case !p.rules.allows(f.Path, kind):
			p.warn("the validator does not allow a %s in %s", kind, show(f.Path))
		case f.Absent.Null && !p.rules.allows(f.Path, "null"):
			p.warn("the validator does not allow null in %s", show(f.Path))
		}
	}
}
