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
	comment(&b, "", fmt.Sprintf("Proposed by 'clerksync adopt' from %d rows of %s and %s. docs/mapping.md says "+
		"what can be written here.", len(r.Rows), mapping.Quote(r.Name), from))
	line(&b, "", "collection: "+yamlText(r.Map.Collection), "")
	line(&b, "", "key: "+yamlText(r.Map.Key), r.Key)
	if r.Map.State != mapping.Default().State {
		line(&b, "", "state: "+yamlText(r.Map.State), "where clerksync keeps its own state; your app has a field clerk")
	}
	line(&b, "", "fields:", "")
	var off []Line
	for _, l := range r.Lines {
		if l.Off {
			off = append(off, l)
			continue
		}
		line(&b, "  ", yamlText(l.Field.Path)+": "+spec(l.Field), l.Reason)
	}
	for i, l := range off {
		if i == 0 {
			line(&b, "  ", "# Switched off, for you to decide:", "")
		}
		line(&b, "  # ", yamlText(l.Field.Path)+": "+spec(l.Field), l.Reason)
	}
	if len(r.Apps) > 0 {
		comment(&b, "", "These stay your app's, and clerksync never touches them: "+list(r.Apps, 50))
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
	line := indent + "#"
	for word := range strings.FieldsSeq(text) {
		if len(line)+1+len(word) > width && line != indent+"#" {
			b.WriteString(line + "\n")
			line = indent + "#"
		}
		line += " " + word
	}
	b.WriteString(line + "\n")
}

// spec returns what follows the name of a field.
func spec(f mapping.Field) string {
	parts := []string{"from: " + yamlText(f.From)}
	if text, isText := f.Value.(string); isText {
		parts[0] = "value: " + yamlText(text)
	} else if f.From == "" {
		parts[0] = fmt.Sprint("value: ", f.Value)
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
	if len(parts) == 1 && f.From != "" && f.From != mapping.Now {
		return yamlText(f.From)
	}
	return "{" + strings.Join(parts, ", ") + "}"
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
