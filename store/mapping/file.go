package mapping

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// maxSize bounds a file: a map of a hundred fields has a few KB.
const maxSize = 1 << 20

// Load reads the map in a YAML file, as docs/mapping.md describes it. The error has a line for each mistake, which
// begins with the file and the line and says what to do. It is a *fs.PathError if the file cannot be read.
func Load(path string) (*Map, error) {
	// Stat first: opening a pipe that nobody writes to would wait forever.
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "read", Path: path, Err: errors.New("it is a folder, or no plain file")}
	}
	file, err := os.Open(path) //nolint:gosec // G304: the operator names it
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(file, maxSize+1))
	if err := errors.Join(err, file.Close()); err != nil {
		return nil, &fs.PathError{Op: "read", Path: path, Err: err}
	}
	return Parse(path, data)
}

// Parse reads the map in the text of a YAML file. name is the file's name, for the messages; for the error see Load.
func Parse(name string, data []byte) (*Map, error) {
	r := &reader{file: name, line: map[string]int{}}
	m := r.document(data)
	if len(r.mistakes) > 0 {
		slices.SortStableFunc(r.mistakes, func(a, b mistake) int { return cmp.Compare(a.line, b.line) })
		var errs []error
		for i, wrong := range r.mistakes {
			if i == maxMistakes {
				wrong.text = fmt.Sprintf("from here on there are %d more: mend these first", len(r.mistakes)-i)
			}
			errs = append(errs, fmt.Errorf("%s: %s", at(name, wrong.line), wrong.text))
			if i == maxMistakes {
				break
			}
		}
		return nil, errors.Join(errs...)
	}
	return m, nil
}

// maxMistakes is how many mistakes are printed: nobody mends more at once.
const maxMistakes = 50

// at names a place in a file, as compilers do.
func at(file string, line int) string { return fmt.Sprintf("%s:%d", file, max(line, 1)) }

// reader reads one file and notes what is wrong with it.
type reader struct {
	file     string
	mistakes []mistake
	line     map[string]int // where collection, key, state and fields are
}

type mistake struct {
	line int
	text string
}

func (r *reader) wrong(line int, format string, args ...any) {
	r.mistakes = append(r.mistakes, mistake{line, fmt.Sprintf(format, args...)})
}

// document reads the whole file.
func (r *reader) document(data []byte) *Map {
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")) // the byte order mark of some editors
	switch {
	case len(data) > maxSize:
		r.wrong(1, "the file is larger than 1 MiB: a map has a line for each field")
		return nil
	case !utf8.Valid(data):
		r.wrong(invalidLine(data), "the file is not UTF-8: save it as UTF-8")
		return nil
	}
	var docs [2]yaml.Node
	dec := yaml.NewDecoder(bytes.NewReader(data))
	err := dec.Decode(&docs[0])
	if err == nil {
		err = dec.Decode(&docs[1])
	}
	switch {
	case err != nil && !errors.Is(err, io.EOF):
		r.notYAML(data, err)
		return nil
	case docs[0].IsZero() || isEmpty(docs[0].Content[0]):
		r.wrong(1, "the file is empty: write a map, such as docs/mapping.md shows, or remove the file")
		return nil
	case !docs[1].IsZero() && !isEmpty(docs[1].Content[0]):
		r.wrong(docs[1].Line, "the file has several documents (---): leave one")
		return nil
	}
	m := Default()
	m.File = r.file
	r.top(m, docs[0].Content[0])
	if len(r.mistakes) == 0 {
		r.checkPlaces(m)
	}
	return m
}

func invalidLine(data []byte) int {
	line := 1
	for l := range bytes.Lines(data) {
		if !utf8.Valid(l) {
			return line
		}
		line++
	}
	return line
}

// notYAML notes the error of the YAML parser. A tab in an indentation is the usual reason, and what the parser says of
// it helps nobody.
func (r *reader) notYAML(data []byte, err error) {
	if tab := regexp.MustCompile(`(?m)^ *\t+[^\s#]`).FindIndex(data); tab != nil {
		r.wrong(1+bytes.Count(data[:tab[0]], []byte("\n")), "the line begins with a tab: YAML takes only spaces there")
		return
	}
	line, text := 1, err.Error()
	if m := regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)$`).FindStringSubmatch(text); m != nil {
		line, _ = strconv.Atoi(cmp.Or(m[1], "1"))
		text = m[2]
	}
	r.wrong(line, "this is not YAML, %s: mend this line, or the one before it", text)
}

// top reads the mapping of the whole file into m, which holds what is used for what is left out.
func (r *reader) top(m *Map, n *yaml.Node) {
	const shape = "write lines such as 'collection: members', as docs/mapping.md shows"
	for name, v := range r.entries(n, "the file", shape) {
		r.line[name.Value] = name.Line
		switch name.Value {
		case "collection":
			m.Collection = r.name(v, name.Value, checkCollection)
		case "key":
			m.Key = r.name(v, name.Value, checkKey)
		case "state":
			m.State = r.name(v, name.Value, checkState)
		case "fields":
			m.Fields = r.fields(v)
		default:
			keys, what := []string{"collection", "key", "state", "fields"}, Quote(name.Value)
			do := " is not known here: " + didYouMean(name.Value, keys)
			if _, isSource := LookUp(v.Value); isSource && v.Kind == yaml.ScalarNode {
				do = " stands beside fields: put it below 'fields:' and indent it"
			} else if what != name.Value { // it may be a secret in another file, and would go to the log
				what, do = "this line", " does not begin with "+strings.Join(keys, ", ")+": is this the map's file?"
			}
			r.wrong(name.Line, "%s%s", what, do)
		}
	}
}

// maxFields bounds how much one row may cost.
const maxFields = 500

func (r *reader) fields(n *yaml.Node) []Field {
	const shape = "write lines such as 'name: full_name' below it, or leave it out for the default fields"
	var fields []Field
	for name, v := range r.entries(n, "fields", shape) {
		f := Field{Path: name.Value, Line: name.Line}
		r.check(name.Line, Quote(f.Path), checkPath(f.Path))
		r.field(&f, v)
		fields = append(fields, f)
	}
	if len(fields) > maxFields {
		r.wrong(n.Line, "there are more than %d fields: leave out some", maxFields)
	}
	return fields
}

// field reads what follows the name of a field: the name of a source, or the long form.
func (r *reader) field(f *Field, n *yaml.Node) {
	name := Quote(f.Path)
	switch {
	case isEmpty(n):
		r.wrong(f.Line, "%s: there is no source: name one such as full_name, or remove the line", name)
	case n.Kind == yaml.MappingNode:
		r.long(f, n)
	case r.isText(n):
		f.From = r.source(name, n)
	case n.Kind == yaml.ScalarNode:
		r.wrong(n.Line, "%s: %s is no source: for a constant write {value: %s}", name, Quote(n.Value), Quote(n.Value))
	default:
		r.wrong(n.Line, "%s: this is no source: write a name such as full_name, or {from: …}", name)
	}
}

// source returns the name of a source, if it is one.
func (r *reader) source(name string, n *yaml.Node) string {
	if !r.isText(n) {
		r.wrong(n.Line, "%s: from is no text: write a source such as full_name", name)
		return ""
	}
	r.check(n.Line, name, checkSource(n.Value))
	return n.Value
}

// long reads the long form of a field: {from: …, value: …, absent: …, when: create, unique: true}.
func (r *reader) long(f *Field, n *yaml.Node) {
	name := Quote(f.Path)
	has := map[string]*yaml.Node{}
	for key, v := range r.entries(n, name, "write {from: …} or {value: …}") {
		has[key.Value] = v
		switch key.Value {
		case "from":
			f.From = r.source(name, v)
		case "value":
			f.Value = r.constant(name, v)
		case "absent":
			f.Absent = r.absent(name, v)
		case "when":
			f.Create = v.Value == "create" && v.Kind == yaml.ScalarNode
			if !f.Create {
				r.wrong(v.Line, "%s: when may only be create: leave it out for a field that is kept up to date", name)
			}
		case "unique":
			f.Unique = v.Value == "true"
			if v.ShortTag() != "!!bool" {
				r.wrong(v.Line, "%s: unique is true or false", name)
			}
		default:
			inside, keys := key.Value, longKeys()
			if _, isSource := LookUp(v.Value); isSource && nearest(inside, keys) == "" {
				r.wrong(key.Line, "%s: %s is not known here: for a field inside %s write '%s.%s: %s'",
					name, Quote(inside), name, f.Path, inside, v.Value)
				continue
			}
			r.wrong(key.Line, "%s: %s is not known here: %s", name, Quote(inside), didYouMean(inside, keys))
		}
	}
	r.together(f, has, n.Line)
}

func longKeys() []string { return []string{"from", "value", "absent", "when", "unique"} }

// together checks what may not stand in one long form.
func (r *reader) together(f *Field, has map[string]*yaml.Node, line int) {
	name := Quote(f.Path)
	isKnown := func(key string) bool { return has[key] != nil }
	wrong := func(key, text string) { r.wrong(has[key].Line, "%s: %s", name, text) }
	switch {
	case has["from"] != nil && has["value"] != nil:
		wrong("value", "it has both from and value: remove one of them")
	case has["from"] == nil && has["value"] == nil && slices.ContainsFunc(longKeys(), isKnown):
		r.wrong(line, "%s: it says neither from nor value: add the source, such as from: full_name", name)
	case has["value"] != nil && has["absent"] != nil:
		wrong("absent", "a constant is never absent: remove absent")
	}
	if !f.Unique {
		return
	}
	switch {
	case f.From != "username" && (f.From != "" || has["value"] != nil):
		wrong("unique", "unique is for the user name alone, from: username: "+
			"remove unique; for other fields make a unique index of the app's own")
	case has["absent"] != nil:
		wrong("absent", "a unique user name is never absent: remove absent")
	case f.Create:
		wrong("when", "a unique user name is kept up to date: remove when, or unique")
	}
}

// absent reads what is written if Clerk's user does not have the value.
func (r *reader) absent(name string, n *yaml.Node) Absent {
	switch {
	case n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" && n.Value != "":
		return Absent{Null: true}
	case r.isText(n) && n.Value == "unset":
		return Absent{}
	case r.isText(n):
		return Absent{Text: &n.Value}
	}
	r.wrong(n.Line, `%s: absent is unset, null or a text: put the text in quotes, such as "0"`, name)
	return Absent{}
}

// entries returns the keys of a mapping with their values. It notes what is no mapping or no text, and keys that are
// there twice. what is the name of the mapping, and shape what to write instead of something else.
func (r *reader) entries(n *yaml.Node, what, shape string) func(yield func(k, v *yaml.Node) bool) {
	return func(yield func(k, v *yaml.Node) bool) {
		if n.Kind == yaml.AliasNode {
			r.wrong(n.Line, "%s is an alias (*%s), which is not followed: write it out", what, n.Value)
			return
		}
		if n.Kind != yaml.MappingNode || len(n.Content) == 0 {
			r.wrong(n.Line, "%s has no names with values: %s", what, shape)
			return
		}
		first := map[string]int{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			k, v := n.Content[i], n.Content[i+1]
			switch line := first[k.Value]; {
			case k.Kind == yaml.AliasNode || k.ShortTag() == "!!merge" || v.Kind == yaml.AliasNode:
				r.wrong(k.Line, "%s has an alias (* or <<), which is not followed: write it out", what)
			case k.Kind != yaml.ScalarNode:
				r.wrong(k.Line, "%s has a name that is no text: %s", what, shape)
			case line > 0:
				r.wrong(k.Line, "%s has %s twice, first in line %d: remove one of them", what, Quote(k.Value), line)
			default:
				first[k.Value] = k.Line
				if !yield(k, v) {
					return
				}
			}
		}
	}
}

func (r *reader) isText(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!str"
}

// name returns a text in which check finds nothing wrong.
func (r *reader) name(n *yaml.Node, what string, check func(string) string) string {
	if !r.isText(n) {
		r.wrong(n.Line, "%s is no text: write a name, in quotes if it looks like a number", what)
		return ""
	}
	r.check(n.Line, what, check(n.Value))
	return n.Value
}

// check notes a mistake in something, unless text is "".
func (r *reader) check(line int, what, text string) {
	if text != "" {
		r.wrong(line, "%s: %s", what, text)
	}
}

// isEmpty tells whether nothing is written where a value could be.
func isEmpty(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" && n.Value == ""
}

// Quote quotes a text for a message unless it is a plain name. Long ones are cut.
func Quote(s string) string {
	if utf8.RuneCountInString(s) > 60 {
		s = string([]rune(s)[:60]) + "…"
	}
	isOdd := func(r rune) bool {
		return r >= utf8.RuneSelf || !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("_.$-", r)
	}
	if s != "" && !strings.ContainsFunc(s, isOdd) {
		return s
	}
	return strconv.QuoteToGraphic(s) // always one line
}
