package adopt

import (
	"fmt"
	"slices"
	"strings"
	"unicode"

	"clerksync/store/database"
	"clerksync/store/mapping"

	"go.mongodb.org/mongo-driver/v2/bson"
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
	rules    validator
}

// propose returns the map for a collection.
func propose(c *Collection, k *key) Proposal {
	p := &proposer{Collection: c, key: k, fields: survey(c.Rows), evidence: gather(c, k), rules: newValidator(c)}
	p.Map = mapping.Map{Collection: c.Name, Key: k.path, State: p.state()}
	p.Matched = p.evidence.users
	p.sayKey()
	for _, f := range p.fields {
		if p.isOurs(f.path) || f.path == mapping.IDField || f.path == k.path || !mapping.IsPath(f.path) {
			continue
		}
		if line, ok := p.line(f); ok && !p.inside(line) {
			p.Lines = append(p.Lines, line)
		}
	}
	p.secondNames()
	p.apps()
	for _, l := range p.Lines {
		if !l.Off {
			p.Map.Fields = append(p.Map.Fields, l.Field)
		}
	}
	p.clash()
	return p.Proposal
}

// state returns the field for our own state: the usual one, unless the app has a field of that name.
func (p *proposer) state() string {
	for _, name := range []string{mapping.Default().State, "_clerk", "_clerksync"} {
		taken := slices.ContainsFunc(p.fields, func(f *field) bool {
			return f.path == name || strings.HasPrefix(f.path, name+".")
		})
		if !taken || p.hasState(name) {
			return name
		}
	}
	return "_clerksync_state"
}

// hasState tells whether clerksync keeps its state in a field already.
func (p *proposer) hasState(name string) bool {
	at := func(sub string) *field {
		i := slices.IndexFunc(p.fields, func(f *field) bool { return f.path == name+"."+sub })
		if i < 0 {
			return &field{}
		}
		return p.fields[i]
	}
	synced := at("synced_at").count(func(v value) bool { _, ok := v.v.(bson.DateTime); return ok })
	return synced > 0 && at("version").texts() > 0
}

// isOurs tells whether a path lies in our own state.
func (p *proposer) isOurs(path string) bool {
	return path == p.Map.State || strings.HasPrefix(path, p.Map.State+".")
}

// inside tells whether a line writes into a field that another line writes, or around the key.
func (p *proposer) inside(l Line) bool {
	path := l.Field.Path
	for _, other := range append(p.Lines, Line{Field: mapping.Field{Path: p.key.path}}) {
		o := other.Field.Path
		if !other.Off && (strings.HasPrefix(path, o+".") || strings.HasPrefix(o, path+".")) {
			return true
		}
	}
	return false
}

func (p *proposer) sayKey() {
	p.Key = fmt.Sprintf("Clerk's id in %d of %d rows", p.key.rows, len(p.Rows))
	if !p.key.doubled() {
		p.Key += ", another in each"
	}
	switch {
	case p.key.unique:
		p.Key += "; your unique index serves"
	case p.key.path != mapping.IDField:
		p.Key += "; clerksync makes its index"
	}
}

// blocked tells whether some row has a value where a path needs a document, so that the path could not be written.
func (p *proposer) blocked(path string) bool {
	return slices.ContainsFunc(p.fields, func(f *field) bool {
		return strings.HasPrefix(path, f.path+".") && f.count(func(v value) bool {
			_, isDocument := v.v.(bson.D)
			return v.v != nil && !isDocument
		}) > 0
	})
}

// on and off return lines with a reason.
func on(f mapping.Field, reason string, args ...any) (Line, bool) {
	return Line{Field: f, Reason: fmt.Sprintf(reason, args...)}, true
}

func off(f mapping.Field, reason string, args ...any) (Line, bool) {
	return Line{Field: f, Reason: fmt.Sprintf(reason, args...), Off: true}, true
}

// line returns what to do with a field; ok is false if it simply stays the app's.
func (p *proposer) line(f *field) (_ Line, ok bool) {
	if !f.single() || isSecret(f.path) || p.blocked(f.path) {
		return Line{}, false
	}
	if f.hasIDs() {
		return p.sameID(f)
	}
	if l, ok := p.technical(f); ok {
		return l, true
	}
	named := namedFor(f.path)
	switch {
	case named == mapping.Public+".role":
		return p.role(f)
	case named == "last_sign_in_at":
		return off(mapping.Field{Path: f.path, From: named},
			"Clerk knows it, but each sign-in would cost a write; stays your app's")
	case named == "email_verified" || named == "banned" || named == "locked":
		if l, ok := p.flag(f, named); ok {
			return l, true
		}
	case p.evidence.users > 0:
		if l, ok := p.byValues(f, named); ok {
			return l, true
		}
	case named != "":
		if l, ok := p.byShape(f, named); ok {
			return l, true
		}
	}
	return p.constant(f)
}

// sameID returns the line of a field that holds the same id as the key.
func (p *proposer) sameID(f *field) (_ Line, ok bool) {
	equal := 0
	for row, v := range f.values {
		equal += yes(isID(v) && v.v == p.key.values[row].v)
	}
	if 100*equal < surely*max(f.filled(), p.key.rows) {
		return Line{}, false
	}
	return on(mapping.Field{Path: f.path, From: "id"}, "the same as %s in %d rows", show(p.key.path), equal)
}

// technical returns the line for what mongoose and the like add by themselves: times and the version of the document.
func (p *proposer) technical(f *field) (_ Line, ok bool) {
	whole := f.count(func(v value) bool { _, is32 := v.v.(int32); return is32 })
	if f.path == "__v" && whole > 0 {
		return on(mapping.Field{Path: f.path, Value: int32(0), Create: true}, "mongoose's count of array changes, 0 "+
			"in a new row")
	}
	dates := f.count(func(v value) bool { _, ok := v.v.(bson.DateTime); return ok })
	if dates == 0 || 10*dates < 9*f.filled() {
		return Line{}, false
	}
	for _, source := range []string{"created_at", "updated_at", "legal_accepted_at"} {
		if m := p.evidence.match(f, source); m.filled >= 2 && m.share() >= 90 && m.distinct > 1 {
			return on(mapping.Field{Path: f.path, From: source}, "Clerk's %s in %d of %d rows",
				source, m.equal, m.filled)
		}
	}
	switch {
	case isNamed(f.path, createdNames()):
		return on(mapping.Field{Path: f.path, From: mapping.Now, Create: true}, "by its name; a date in %d of %d rows",
			dates, len(p.Rows))
	case isNamed(f.path, updatedNames()):
		return on(mapping.Field{Path: f.path, From: mapping.Now}, "by its name; a date in %d of %d rows",
			dates, len(p.Rows))
	case hasWord(f.path, "sync"):
		return off(mapping.Field{Path: f.path, From: mapping.Now}, "if it says when the row was last written from "+
			"Clerk")
	}
	return Line{}, false
}

const (
	// surely is the share of equal values, in percent, from which a field is known by them alone. Rows that missed a
	// webhook differ.
	surely = 90
	// likely is the same for a field whose name says the same.
	likely = 60
	// hardly is the share below which the app seems to write a field itself.
	hardly = 30
	// few is how many equal values are too few to say anything.
	few = 3
)

// byValues returns the line of a field whose values can be compared with Clerk's.
func (p *proposer) byValues(f *field, named string) (_ Line, ok bool) {
	if f.texts() == 0 && named == "" {
		return Line{}, false
	}
	best := match{}
	for _, source := range p.evidence.sources {
		if s, _ := mapping.LookUp(source); s.Kind == mapping.Text || s.Kind == mapping.Any {
			m := p.evidence.match(f, source)
			better := m.share() > best.share() || m.share() == best.share() && m.equal > best.equal
			if m.source == named && m.share() >= best.share()-5 || better && m.equal > 0 &&
				(best.source != named || named == "" || m.share() > best.share()+5) {
				best = m
			}
		}
	}
	own := p.evidence.match(f, named)
	conclusive := best.distinct >= few || best.distinct == best.filled && best.distinct > 0 &&
		(best.source == "primary_email" || best.source == "image_url")
	switch {
	case isMetadata(best.source) && best.share() >= surely && best.equal >= few:
		return off(mapping.Field{Path: f.path, From: best.source},
			"equal in %d of %d rows: switch it on if it is changed at Clerk, and not by your app",
			best.equal, best.filled)
	case named == "username" || best.source == "username" && best.share() >= surely && conclusive:
		if l, ok := p.username(f, own, best); ok {
			return l, true
		}
	}
	switch {
	case !isMetadata(best.source) && best.share() >= surely && (conclusive || best.source == named && best.equal > 0):
		return on(p.withAbsent(f, best.source), "%s", p.equal(best))
	case named == "":
		return Line{}, false
	case own.has == 0 && (own.extra > 0 || !slices.Contains([]string{"first_name", "last_name", "full_name"}, named)):
		if f.filled() == 0 {
			return Line{}, false
		}
		return off(mapping.Field{Path: f.path, From: named}, "by its name, but none of these users has one at "+
			"Clerk; stays "+
			"your app's")
	case own.filled == 0:
		return on(p.withAbsent(f, named), "by its name; it is empty in the rows, so the backfill fills it")
	case own.share() >= likely:
		return on(p.withAbsent(f, named), "%s", p.equal(own))
	case named == "image_url" && p.clerkPictures(f) >= likely:
		return on(p.withAbsent(f, named), "pictures of Clerk's, %d of %d of today", own.equal, own.filled)
	case own.share() >= hardly:
		p.ask("%s is Clerk's %s in %d of %d rows, and something else in the others: does your app change it? Then "+
			"leave "+
			"its line switched off", show(f.path), named, own.equal, own.filled)
		return off(mapping.Field{Path: f.path, From: named}, "equal in %d of %d rows only, see the question", own.equal,
			own.filled)
	}
	return off(mapping.Field{Path: f.path, From: named}, "another value than Clerk's in %d of %d rows: your app "+
		"writes it "+
		"itself", own.filled-own.equal, own.filled)
}

func isMetadata(source string) bool {
	return strings.HasPrefix(source, mapping.Public+".") || strings.HasPrefix(source, mapping.Unsafe+".")
}

// equal says how well the values fit.
func (p *proposer) equal(m match) string {
	s := fmt.Sprintf("equals Clerk's in %d of %d rows", m.equal, m.has)
	if n := m.differs(); n > 0 {
		s += fmt.Sprintf("; the backfill changes %d", n)
	}
	return s
}

func (p *proposer) ask(format string, args ...any) {
	p.Questions = append(p.Questions, fmt.Sprintf(format, args...))
}

// clerkPictures is the share of Clerk's pictures among the values of a field, in percent.
func (p *proposer) clerkPictures(f *field) int {
	return 100 * f.count(func(v value) bool { return isClerkPicture(v.text()) }) / max(f.filled(), 1)
}

// ownPicture returns a field with pictures of which none is Clerk's, or "".
func (p *proposer) ownPicture() string {
	for _, f := range p.fields {
		urls := f.count(func(v value) bool { return isURL(v.text()) })
		if namedFor(f.path) == "image_url" && urls > 0 && p.clerkPictures(f) == 0 {
			return f.path
		}
	}
	return ""
}

// byShape returns the line of a field that is known by its name and by the shape of its values.
func (p *proposer) byShape(f *field, named string) (_ Line, ok bool) {
	shaped := func(is func(string) bool) int {
		return 100 * f.count(func(v value) bool { return is(v.text()) }) / max(f.filled(), 1)
	}
	maybe := mapping.Field{Path: f.path, From: named}
	switch named {
	case "primary_email":
		n := shaped(isAddress)
		if n < surely {
			return off(maybe, "by its name, but only %d %% of its values are e-mail addresses", n)
		}
		return on(p.withAbsent(f, named), "by its name; its values are e-mail addresses")
	case "image_url":
		switch n := p.clerkPictures(f); {
		case n >= likely:
			return on(p.withAbsent(f, named), "by its name; %d %% of its values are pictures of Clerk's", n)
		case n > 0:
			p.ask("%s has pictures of Clerk's in %d %% of the rows, and others elsewhere: does your app let users "+
				"change "+
				"their picture? Then leave its line switched off", show(f.path), n)
			return off(maybe, "by its name; %d %% of its values are pictures of Clerk's, see the question", n)
		case shaped(isURL) > 0:
			return off(maybe, "by its name, but none of its values is a picture of Clerk's: your app has its own")
		}
		return off(maybe, "by its name alone; it is empty in these rows")
	case "username":
		return p.username(f, match{}, match{})
	case "first_name", "last_name", "full_name":
		if own := p.ownPicture(); own != "" {
			p.ask("%s of your app is not Clerk's, so users seem to change their profile in your app: is %s Clerk's "+
				"%s? With "+
				"CLERK_SECRET_KEY set, its values tell", show(own), show(f.path), named)
			return off(maybe, "by its name alone, see the question")
		}
		return on(p.withAbsent(f, named), "by its name alone")
	}
	return off(maybe, "by its name alone, which says too little")
}

// username returns the line of a field with user names. own says how it fits Clerk's user names, and best which source
// fits best; both are zero if nothing could be compared.
func (p *proposer) username(f *field, own, best match) (_ Line, ok bool) {
	unique := slices.ContainsFunc(p.Indexes, func(i database.IndexInfo) bool {
		return i.Unique && slices.Equal(i.Fields, []string{f.path})
	})
	ruled := f.doubles() == 0 && (unique || f.texts() == len(p.Rows)) && p.Map.Username() == "" && !p.hasUsername()
	field := mapping.Field{Path: f.path, From: "username", Unique: ruled}
	switch {
	case f.texts() == 0 && !unique:
		return Line{}, false
	case own.source == "" && best.source == "": // nothing to compare with
		if ruled {
			return on(field, "by its name; each row has another. A new row whose name is taken gets a suffix")
		}
		return on(field, "by its name alone")
	case best.source != "username" && best.share() >= surely && best.distinct >= few && !unique:
		return Line{}, false // it is another thing, such as the full name
	case own.filled > 0 && own.share() >= likely:
		if ruled {
			return on(field, "%s. Other users get one made of their address", p.equal(own))
		}
		return on(field, "%s", p.equal(own))
	case own.filled >= few || own.filled > 0 && own.share() == 0:
		return off(mapping.Field{Path: f.path, From: "username"},
			"another than Clerk's in %d of %d rows: your app gives user names itself", own.filled-own.equal, own.filled)
	case ruled:
		return on(field, "these users have none at Clerk: each row keeps its own, a new one gets one made of the "+
			"address")
	}
	return off(field, "these users have none at Clerk; stays your app's")
}

func (p *proposer) hasUsername() bool {
	return slices.ContainsFunc(p.Lines, func(l Line) bool { return l.Field.Unique && !l.Off })
}

// flag returns the line of a field that says yes or no, which equal values alone do not tell.
func (p *proposer) flag(f *field, named string) (_ Line, ok bool) {
	bools := f.count(func(v value) bool { _, ok := v.v.(bool); return ok })
	if bools == 0 || bools < f.filled() {
		return Line{}, false
	}
	m := p.evidence.match(f, named)
	field := mapping.Field{Path: f.path, From: named}
	switch {
	case m.filled > 0 && m.share() >= surely && m.distinct > 1,
		named == "email_verified" && m.filled > 0 && m.share() == 100:
		return on(field, "%s", p.equal(m))
	case named == "email_verified" && m.filled == 0:
		return on(field, "by its name; it is true or false")
	case named == "email_verified":
		return off(field, "by its name, but another than Clerk's in %d of %d rows", m.filled-m.equal, m.filled)
	}
	return Line{}, false // banned by the app is another thing than banned at Clerk
}

// role returns the line of a field with a role. It gives rights, so in doubt it stays the app's.
func (p *proposer) role(f *field) (_ Line, ok bool) {
	const source = mapping.Public + ".role"
	if f.texts() == 0 {
		return Line{}, false
	}
	usual, n := f.common()
	text, _ := usual.(string)
	field := mapping.Field{Path: f.path, From: source}
	if 10*n >= 5*f.texts() && !isPrivileged(text) {
		field.Absent = mapping.Absent{Text: &text}
	}
	for _, name := range p.evidence.sources {
		public := isMetadata(name) && !strings.HasPrefix(name, mapping.Unsafe)
		if !public || !isNamed(name, []string{"role", "userrole"}) {
			continue
		}
		// Rows without a role at Clerk have the usual one.
		m, usualToo := p.evidence.match(f, name), 0
		for row, v := range f.values {
			if p.evidence.user[row] != nil && p.evidence.values[name][row] == nil && v.text() == text {
				usualToo++
			}
		}
		field.From = name
		if m.has >= few && m.share() >= 95 && m.filled == m.has && usualToo == m.lacks {
			if m.lacks == 0 && m.distinct < 2 {
				field.Absent = mapping.Absent{}
			}
			return on(field, "equal in %d of %d rows whose user has one in its public metadata", m.equal, m.has)
		}
	}
	reason := "it gives rights, and these users have none in their public metadata: stays your app's"
	if p.evidence.users == 0 {
		reason = "it gives rights: stays your app's, unless it is set at Clerk"
	}
	if p.rules.requires(f.path) && field.Absent.Text != nil {
		return on(mapping.Field{Path: f.path, Value: text, Create: true},
			"the validator requires it; %d of %d rows have this one", n, len(p.Rows))
	}
	return off(field, "%s", reason)
}

// isPrivileged tells whether a role seems to give more rights than others.
func isPrivileged(role string) bool {
	role = plain(role)
	return role == "" || slices.ContainsFunc([]string{
		"admin", "owner", "super", "root", "staff", "moderator",
		"manager",
	},
		func(s string) bool { return strings.Contains(role, s) })
}

// constant returns the line of a field that every row has with the same value, which is what the app gives a new row.
func (p *proposer) constant(f *field) (_ Line, ok bool) {
	v, n := f.common()
	required := p.rules.requires(f.path)
	text, isText := v.(string)
	yesNo, isBool := v.(bool)
	switch {
	case n == 0 || strings.Contains(f.path, ".") || n < few && !required:
		return Line{}, false
	// What a user comes to by doing something is no default, even if all users have done it.
	case isBool && yesNo && hasWord(f.path, "onboard", "complete", "verif", "welcome", "done", "seen", "accept", "paid",
		"subscri", "admin", "approv", "premium", "pro", "owner", "super", "staff"):
		return Line{}, false
	case isText && (len(text) > 40 || isAddress(text) || isURL(text) || text == "" || isID(value{true, text}) ||
		strings.ContainsFunc(text, unicode.IsControl)):
		return Line{}, false
	case isText && hasWord(f.path, "role", "permission", "access", "level", "type") && isPrivileged(text):
		return Line{}, false
	}
	field := mapping.Field{Path: f.path, Value: v, Create: true}
	switch {
	case n == len(p.Rows):
		return on(field, "the same in all %d rows, so a new row gets it too", n)
	case required && 10*n >= 9*len(p.Rows):
		return on(field, "the validator requires it; %d of %d rows have this one", n, len(p.Rows))
	case 10*n >= 6*len(p.Rows):
		return off(field, "in %d of %d rows; switch it on if a new row is to get it", n, len(p.Rows))
	}
	return Line{}, false
}

// withAbsent returns the field with what it gets if Clerk's user has no such value: what the rows of such users have.
func (p *proposer) withAbsent(f *field, source string) mapping.Field {
	field := mapping.Field{Path: f.path, From: source}
	// A text in a field of dates would be refused by most models.
	s, _ := mapping.LookUp(source)
	if !s.Optional || s.Kind != mapping.Text || source == "image_url" || p.uniqueOn(f.path) {
		return field
	}
	var nulls, empty, missing int
	placeholders := map[string]int{}
	for row, v := range f.values {
		if len(p.evidence.values[source]) > 0 && p.evidence.values[source][row] != nil {
			continue // Clerk has one
		}
		switch known := p.evidence.users > 0 && p.evidence.user[row] != nil; {
		case v.there && v.v == nil:
			nulls++
		case !v.there:
			missing++
		case v.v == "":
			empty++
		case known && v.text() != "":
			placeholders[v.text()]++
		}
	}
	for text, n := range placeholders {
		if n >= 2 && len(placeholders) == 1 && text != "unset" && len(text) <= 40 && n > nulls+empty+missing {
			field.Absent = mapping.Absent{Text: &text}
			return field
		}
	}
	never := nulls+empty+missing == 0 && len(p.Rows) >= 5
	switch {
	case nulls > max(empty, missing):
		field.Absent = mapping.Absent{Null: true}
	case empty > missing && empty > 0, never && source != "primary_email":
		field.Absent = mapping.Absent{Text: new("")}
	case p.rules.requires(f.path) && p.rules.allows(f.path, "null"):
		field.Absent = mapping.Absent{Null: true}
	case p.rules.requires(f.path) && p.rules.allows(f.path, "string"):
		field.Absent = mapping.Absent{Text: new("")}
	}
	return field
}

func (p *proposer) uniqueOn(path string) bool {
	return slices.ContainsFunc(p.Indexes, func(i database.IndexInfo) bool {
		return i.Unique && slices.Contains(i.Fields, path)
	})
}

// secondNames switches off a field that is known by its name alone if another one has the same source and other values:
// a user may have a display name of their own.
func (p *proposer) secondNames() {
	if p.evidence.users > 0 {
		return
	}
	first := map[string]*field{}
	for i := range p.Lines {
		l := &p.Lines[i]
		f := p.fields[slices.IndexFunc(p.fields, func(f *field) bool { return f.path == l.Field.Path })]
		if l.Off || l.Field.From == "" || l.Field.From == mapping.Now {
			continue
		}
		other := first[l.Field.From]
		if other == nil {
			first[l.Field.From] = f
			continue
		}
		equal := 0
		for row, v := range f.values {
			equal += yes(v.v == other.values[row].v)
		}
		if 100*equal < surely*len(p.Rows) {
			l.Off, l.Reason = true, "by its name alone, and it differs from "+show(other.path)
			p.ask("both %s and %s may be Clerk's %s, and they differ: which one? With CLERK_SECRET_KEY set, their "+
				"values "+
				"tell", show(other.path), show(f.path), l.Field.From)
		}
	}
}

// apps notes the fields that stay the app's, by the names at the top of the document.
func (p *proposer) apps() {
	for _, f := range p.fields {
		top, _, _ := strings.Cut(f.path, ".")
		key, _, _ := strings.Cut(p.key.path, ".")
		written := slices.ContainsFunc(p.Lines, func(l Line) bool {
			at, _, _ := strings.Cut(l.Field.Path, ".")
			return at == top && !l.Off
		})
		if !written && !p.isOurs(f.path) && top != mapping.IDField && top != key && !slices.Contains(p.Apps, top) {
			p.Apps = append(p.Apps, top)
		}
	}
}
