package adopt

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"clerksync/store/mapping"
)

// width is how long a line of the file may be; reason is where reasons begin.
const (
	width  = 118
	reason = 44
)

// File returns the map as a file that mapping.Load reads, with a reason beside each line.
func (r *Report) File() []byte {
	var b strings.Builder
	from := "the names of its fields and the shapes of their values"
	if r.Matched > 0 {
		from = fmt.Sprintf("%d of its users at Clerk", r.Matched)
	}
	comment(&b, "", fmt.Sprintf("Proposed by 'clerksync adopt' from %d rows of %s and %s. docs/mapping.md says what "+
		"can be written here.", len(r.Rows), show(r.Name), from))
	line(&b, "", "collection: "+yamlText(r.Map.Collection), "")
	line(&b, "", "key: "+yamlText(r.Map.Key), r.Key)
	if r.Map.State != mapping.Default().State {
		line(&b, "", "state: "+yamlText(r.Map.State), "where clerksync keeps its own state; your app has a field clerk")
	}
	line(&b, "", "fields:", "")
	for _, l := range r.Lines {
		if !l.Off {
			line(&b, "  ", yamlText(l.Field.Path)+": "+spec(l.Field), l.Reason)
		}
	}
	if slices.ContainsFunc(r.Lines, func(l Line) bool { return l.Off }) {
		b.WriteString("  # Switched off, for you to decide:\n")
		for _, l := range r.Lines {
			if l.Off {
				line(&b, "  # ", yamlText(l.Field.Path)+": "+spec(l.Field), l.Reason)
			}
		}
	}
	if len(r.Apps) > 0 {
		const most = 50
		var shown []string
		for _, name := range r.Apps[:min(len(r.Apps), most)] {
			shown = append(shown, show(name))
		}
		if more := len(r.Apps) - most; more > 0 {
			shown = append(shown, fmt.Sprintf("and %d more", more))
		}
		comment(&b, "", "These stay your app's, and clerksync never touches them: "+strings.Join(shown, ", "))
	}
	return []byte(b.String())
}

// line writes a line with its reason beside it, or above it if both together are too long.
func line(b *strings.Builder, indent, text, why string) {
	text = indent + text
	beside := fmt.Sprintf("%-*s # %s", reason, text, why)
	switch {
	case why == "":
		b.WriteString(text + "\n")
	case len(beside) <= width:
		b.WriteString(beside + "\n")
	default:
		comment(b, strings.TrimSuffix(indent, "# "), why)
		b.WriteString(text + "\n")
	}
}

// comment writes a text as comments that are not too long.
func comment(b *strings.Builder, indent, text string) {
	at := 0
	for word := range strings.FieldsSeq(text) {
		if at == 0 || at+1+len(word) > width {
			if at > 0 {
				b.WriteString("\n")
			}
			b.WriteString(indent + "#")
			at = len(indent) + 1
		}
		b.WriteString(" " + word)
		at += 1 + len(word)
	}
	b.WriteString("\n")
}

// spec returns what follows the name of a field.
func spec(f mapping.Field) string {
	var parts []string
	if f.From != "" {
		if f.From != mapping.Now && !f.Create && !f.Unique && !f.Absent.Null && f.Absent.Text == nil {
			return yamlText(f.From)
		}
		parts = append(parts, "from: "+yamlText(f.From))
	} else {
		parts = append(parts, "value: "+yamlValue(f.Value))
	}
	switch {
	case f.Absent.Null:
		parts = append(parts, "absent: null")
	case f.Absent.Text != nil:
		parts = append(parts, "absent: "+yamlText(*f.Absent.Text))
	}
	if f.Unique {
		parts = append(parts, "unique: true")
	}
	if f.Create {
		parts = append(parts, "when: create")
	}
	return "{" + strings.Join(parts, ", ") + "}"
}

func yamlValue(v any) string {
	switch v := v.(type) {
	case string:
		return yamlText(v)
	case float64:
		text := strconv.FormatFloat(v, 'g', -1, 64)
		if !strings.ContainsAny(text, ".eIN") {
			text += ".0" // else it would be read as a whole number
		}
		return text
	}
	return fmt.Sprint(v)
}

// yamlText returns a text as YAML: as it is if nothing else could be read from it, else in quotes as Go's, which YAML
// reads too.
func yamlText(s string) string {
	word := regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]*$`)
	reserved := []string{"true", "false", "null", "yes", "no", "on", "off", "y", "n"}
	if word.MatchString(s) && !slices.Contains(reserved, strings.ToLower(s)) {
		return s
	}
	return strconv.Quote(strings.ToValidUTF8(s, "\ufffd"))
}

// show returns a name from the database as a message has it: on one line, and not longer than a name is.
func show(name string) string {
	const most = 100
	if r := []rune(name); len(r) > most {
		name = string(r[:most]) + "…"
	}
	if regexp.MustCompile(`^[\pL\pN_.$ -]+$`).MatchString(name) {
		return name
	}
	return strconv.QuoteToGraphic(name)
}
