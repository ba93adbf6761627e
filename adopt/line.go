package adopt

import (
	"fmt"
	"slices"
	"strings"
	"unicode"

	"clerksync/store/mapping"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// This file decides about a single field: each function is a list of cases with what they lead to. A nil line means
// that the field simply stays the app's.

const (
	// surely is the share of equal values, in percent, from which a field is known by them alone. Rows that missed a
	// webhook differ.
	surely = 90
	// likely is the same for a field whose name says the same.
	likely = 60
	// few is how many equal values are too few to say anything.
	few = 3
)

// on returns the line for a field from a source of Clerk's, off one that a person has to switch on.
func (p *proposer) on(f *field, source, reason string, args ...any) *Line {
	field := mapping.Field{Path: f.path, From: source, Absent: p.absent(f, source)}
	return &Line{Field: field, Reason: fmt.Sprintf(reason, args...)}
}

func off(f *field, source, reason string, args ...any) *Line {
	return &Line{Field: mapping.Field{Path: f.path, From: source}, Reason: fmt.Sprintf(reason, args...), Off: true}
}

// created returns the line for a field that is written when the row is made: a constant, or the time if value is nil.
func created(f *field, value any, reason string, args ...any) *Line {
	field := mapping.Field{Path: f.path, Value: value, Create: true}
	if value == nil {
		field.From = mapping.Now
	}
	return &Line{Field: field, Reason: fmt.Sprintf(reason, args...)}
}

// line returns what to do with a field.
func (p *proposer) line(f *field) *Line {
	if ofType[bson.D](f)+ofType[bson.A](f) > 0 || isSecret(f.path) || p.blocked(f.path) {
		return nil
	}
	var line *Line
	switch named := namedFor(f.path); {
	case f.hasIDs():
		return p.sameID(f)
	case f.path == "__v" && ofType[int32](f) > 0:
		return created(f, int32(0), "mongoose's count of array changes, 0 in a new row")
	case named == roleSource:
		return p.role(f)
	case named == "last_sign_in_at":
		return off(f, named, "Clerk knows it, but each sign-in would cost a write; stays your app's")
	case 10*ofType[bson.DateTime](f) >= 9*max(f.filled(), 1):
		return p.date(f)
	case named == "email_verified":
		line = p.verified(f)
	case p.evidence.users > 0:
		line = p.byValues(f)
	case slices.Contains(personal(), named):
		line = p.byShape(f, named)
	}
	if line == nil {
		line = p.constant(f)
	}
	return line
}

// blocked tells whether some row has a value where a path needs a document, so that the path could not be written.
func (p *proposer) blocked(path string) bool {
	return slices.ContainsFunc(p.fields, func(f *field) bool {
		return path != f.path && within(path, f.path) && ofType[any](f) > ofType[bson.D](f)
	})
}

// sameID decides about a field with Clerk's ids.
func (p *proposer) sameID(f *field) *Line {
	equal := 0
	for row, v := range f.values {
		equal += yes(isID(v) && v.v == p.key.values[row].v)
	}
	if 100*equal < surely*max(f.filled(), p.key.rows) {
		return nil
	}
	return p.on(f, "id", "the same as %s in %d rows", mapping.Quote(p.key.path), equal)
}

// date decides about a field with times.
func (p *proposer) date(f *field) *Line {
	for _, source := range []string{"created_at", "updated_at"} {
		if m := p.evidence.match(f, source); m.share() >= surely && m.distinct > 1 {
			return p.on(f, source, "Clerk's %s in %d of %d rows", source, m.equal, m.filled)
		}
	}
	const reason = "by its name; a date in %d of %d rows"
	switch mapping.Named(last(f.path)) {
	case "created_at":
		return created(f, nil, reason, f.filled(), len(p.Rows))
	case "updated_at":
		return p.on(f, mapping.Now, reason, f.filled(), len(p.Rows))
	}
	return nil
}

// verified decides about a field that is named after whether the address is verified.
func (p *proposer) verified(f *field) *Line {
	const source = "email_verified"
	m := p.evidence.match(f, source)
	if ofType[bool](f) < max(f.filled(), 1) || m.filled > 0 && m.share() < surely {
		return nil
	}
	return p.on(f, source, "by its name, and true or false in %d of %d rows", f.filled(), len(p.Rows))
}

// byValues decides about a field whose values can be compared with Clerk's.
func (p *proposer) byValues(f *field) *Line {
	named := namedFor(f.path)
	if !slices.Contains(personal(), named) {
		named = ""
	}
	best, own := p.evidence.best(f, named), p.evidence.match(f, named)
	isSure := best.share() >= surely && (best.distinct >= few || best.equal > 0 && best.source == named ||
		best.distinct == best.filled && (best.source == "primary_email" || best.source == "image_url"))
	switch {
	case isSure && best.source == "username",
		named == "username" && (p.uniqueOn(f.path) || !isSure && f.texts() > 0):
		return p.username(f)
	case isSure:
		return p.on(f, best.source, "%s", equal(best))
	case named == "" || own.has == 0 && f.filled() == 0:
		return nil
	case own.has == 0:
		return off(f, named, "by its name, but none of these users has one at Clerk; stays your app's")
	case own.filled == 0:
		return p.on(f, named, "by its name; it is empty in the rows, so the backfill fills it")
	case own.share() >= likely:
		return p.on(f, named, "%s", equal(own))
	case named == "image_url" && share(f, isClerkPicture) >= likely:
		return p.on(f, named, "pictures of Clerk's, %d of %d of today", own.equal, own.filled)
	}
	return off(f, named, "another value than Clerk's in %d of %d rows: your app writes it itself",
		own.filled-own.equal, own.filled)
}

// equal says how well the values fit.
func equal(m match) string {
	s := fmt.Sprintf("equals Clerk's in %d of %d rows", m.equal, m.has)
	if n := m.has - m.equal; n > 0 {
		s += fmt.Sprintf("; the backfill changes %d", n)
	}
	return s
}

// share returns the share of the values of a field that are texts for which is holds, in percent.
func share(f *field, is func(string) bool) int { return 100 * f.like(is) / max(f.filled(), 1) }

// byShape decides about a field that is known by its name and by the shape of its values.
func (p *proposer) byShape(f *field, named string) *Line {
	addresses, pictures := share(f, isAddress), share(f, isClerkPicture)
	ownPicture := slices.IndexFunc(p.fields, func(f *field) bool { // none of its pictures is Clerk's
		return namedFor(f.path) == "image_url" && f.like(isURL) > 0 && f.like(isClerkPicture) == 0
	})
	switch {
	case named == "username":
		return p.username(f)
	case named == "primary_email" && addresses >= surely:
		return p.on(f, named, "by its name; its values are e-mail addresses")
	case named == "primary_email":
		return off(f, named, "by its name, but only %d %% of its values are e-mail addresses", addresses)
	case named == "image_url" && pictures >= likely:
		return p.on(f, named, "by its name; %d %% of its values are pictures of Clerk's", pictures)
	case named == "image_url" && f.like(isURL) > 0:
		return off(f, named, "by its name, but %d %% of its values are pictures of Clerk's: your app has its own",
			pictures)
	case !strings.HasSuffix(named, "_name"):
		return off(f, named, "by its name alone, which says too little")
	case ownPicture >= 0:
		p.ask("%s of your app is not Clerk's, so users seem to change their profile in your app: is %s Clerk's %s? "+
			"With CLERK_SECRET_KEY set, its values tell",
			mapping.Quote(p.fields[ownPicture].path), mapping.Quote(f.path), named)
		return off(f, named, "by its name alone, see the question")
	}
	return p.on(f, named, "by its name alone")
}

// username decides about a field with user names. Unique ones get the rule that no two rows have the same.
func (p *proposer) username(f *field) *Line {
	const source = "username"
	indexed := p.uniqueOn(f.path)
	isSecond := slices.ContainsFunc(p.Lines, func(l Line) bool { return l.Field.Unique && !l.Off })
	ruled := f.distinct() && (indexed || f.texts() == len(p.Rows)) && !isSecond
	line := p.on(f, source, "")
	line.Field.Unique = ruled
	if ruled {
		line.Field.Absent = mapping.Absent{}
	}
	switch m := p.evidence.match(f, source); {
	case f.texts() == 0 && !indexed:
		return nil
	case m.filled > 0 && m.share() < likely:
		return off(f, source, "another than Clerk's in %d of %d rows: your app gives user names itself",
			m.filled-m.equal, m.filled)
	case m.filled > 0:
		line.Reason = equal(m)
	case p.evidence.users == 0:
		line.Reason = "by its name"
	case ruled:
		line.Reason = "these users have none at Clerk: each row keeps its own"
	default:
		return off(f, source, "these users have none at Clerk; stays your app's")
	}
	if ruled {
		line.Reason += ". Other users get one made of their address"
	}
	return line
}

// role decides about a field with a role. It gives rights, so in doubt it stays the app's.
func (p *proposer) role(f *field) *Line {
	line := off(f, roleSource, "it gives rights, and these users have none in their public metadata: stays your app's")
	usual, n := f.common()
	text, _ := usual.(string)
	if text != "" && 2*n >= f.texts() && !isPrivileged(text) {
		line.Field.Absent.Text = &text
	}
	m := p.evidence.match(f, roleSource)
	usualToo := 0 // rows without a role at Clerk that have the usual one
	for row, v := range f.values {
		usualToo += yes(p.evidence.known[row] && p.evidence.values[roleSource][row] == nil && v.v == usual)
	}
	switch {
	case p.evidence.users == 0:
		line.Reason = "it gives rights: stays your app's, unless it is set at Clerk"
	case m.has >= few && m.filled == m.has && m.share() >= 95 && usualToo == m.lacks:
		line.Reason = fmt.Sprintf("equal in %d of %d rows whose user has one in its public metadata", m.equal, m.has)
		line.Off = false
	}
	return line
}

// constant decides about a field in which many rows have the same value, which is what the app gives a new row. What a
// user comes to by doing something is no default, even if all users have done it.
func (p *proposer) constant(f *field) *Line {
	v, n := f.common()
	text, isText := v.(string)
	switch {
	case n < few || strings.Contains(f.path, "."):
		return nil
	case v == true && !hasWord(f.path, "active", "enabled"):
		return nil
	case isText && (text == "" || len(text) > 40 || isAddress(text) || isURL(text) || isPrivileged(text) ||
		strings.ContainsFunc(text, unicode.IsControl)):
		return nil
	case n == len(p.Rows):
		return created(f, v, "the same in all %d rows, so a new row gets it too", n)
	case 10*n >= 6*len(p.Rows):
		line := created(f, v, "in %d of %d rows; switch it on if a new row is to get it", n, len(p.Rows))
		line.Off = true
		return line
	}
	return nil
}

// absent returns what a field gets if Clerk's user has no such value: what the rows of such users have.
func (p *proposer) absent(f *field, source string) mapping.Absent {
	s, _ := mapping.LookUp(source)
	// A text in a field of dates would be refused by most models, and the second one by a unique index.
	if !s.Optional || s.Kind != mapping.Text || source == "image_url" || p.uniqueOn(f.path) {
		return mapping.Absent{}
	}
	var missing, nulls, empty int
	texts := map[string]int{} // placeholders, such as "none"
	for row, v := range f.values {
		switch {
		case p.evidence.values[source][row] != nil: // Clerk has one
		case !v.there:
			missing++
		case v.v == nil:
			nulls++
		case v.v == "":
			empty++
		case p.evidence.known[row] && v.text() != "":
			texts[v.text()]++
		}
	}
	none := missing + nulls + empty
	for text, n := range texts {
		if len(texts) == 1 && n > max(1, none) && len(text) <= 40 && text != "unset" {
			return mapping.Absent{Text: &text}
		}
	}
	switch {
	case nulls > max(empty, missing):
		return mapping.Absent{Null: true}
	case empty > missing, none == 0 && len(p.Rows) >= 5 && source != "primary_email":
		return mapping.Absent{Text: new("")}
	}
	return mapping.Absent{}
}
