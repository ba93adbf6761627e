package mapping

import (
	"cmp"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"
)

// validator returns what tells why a YAML file does not fit the schema, or nil.
func validator(t testing.TB) func(text string) error {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(Schema()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("schema.json", doc); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return func(text string) error {
		var v any
		if err := yaml.Unmarshal([]byte(text), &v); err != nil {
			return err
		}
		asJSON, err := json.Marshal(v)
		if err != nil {
			return err
		}
		v, err = jsonschema.UnmarshalJSON(strings.NewReader(string(asJSON)))
		if err != nil {
			return err
		}
		return schema.Validate(v)
	}
}

// TestSchemaHasTheSources: the schema is written by hand, and knows every source with its note.
func TestSchemaHasTheSources(t *testing.T) {
	t.Parallel()
	var schema struct {
		Properties struct {
			Key struct {
				Not struct {
					AnyOf []struct{ Enum []string }
				}
			}
		}
		Definitions struct {
			Source struct {
				AnyOf []struct{ Const, Pattern, Description string }
			}
		}
	}
	if err := json.Unmarshal([]byte(Schema()), &schema); err != nil {
		t.Fatal(err)
	}
	var got, want, notKeys []string
	for _, s := range schema.Definitions.Source.AnyOf {
		got = append(got, cmp.Or(s.Const, s.Pattern)+": "+s.Description)
	}
	describe := func(name, note, warn string) {
		if warn != "" {
			note += "; " + warn
		}
		want = append(want, name+": "+note)
	}
	for _, s := range Sources() {
		describe(s.Name, s.Note, s.Warn)
		if checkKey(s.Name) != "" {
			notKeys = append(notKeys, s.Name)
		}
	}
	for _, name := range []string{Public, Unsafe} {
		s, _ := LookUp(name)
		describe("^"+name+`(\.[^.]+)*$`, s.Note+", such as "+name+".plan", s.Warn)
		notKeys = append(notKeys, name)
	}
	if d := gocmp.Diff(want, got); d != "" {
		t.Errorf("sources: -want +got:\n%s", d)
	}
	if d := gocmp.Diff(notKeys, schema.Properties.Key.Not.AnyOf[1].Enum); d != "" {
		t.Errorf("sources that are no names of a key: -want +got:\n%s", d)
	}
}

// TestSchema: an editor marks what Load refuses, and nothing that Load takes.
func TestSchema(t *testing.T) {
	t.Parallel()
	fits := validator(t)
	for _, text := range []string{
		good, "collection: x", "key: id", "key: external_id", "state: _clerk", "fields: {a: id}",
		"fields: {a.b.c.d.e.f.g.h: public_metadata}", "fields: {a: unsafe_metadata.x.y z}", "fields: {v2: id, a$: id}",
		"fields: {a: {value: null}}", "fields: {a: {value: [1, {b: x}], when: create}}",
		"fields: {a: {from: id, absent: unset}}",
		"fields: {a: {from: username, unique: false, absent: ''}}", "fields: {a: {from: username, unique: true}}",
	} {
		if _, err := Parse("f", []byte(text)); err != nil {
			t.Errorf("%s: Parse: %v", text, err)
		}
		if err := fits(text); err != nil {
			t.Errorf("%s: the schema: %v", text, err)
		}
	}
	many := "fields:"
	for i := range maxFields + 1 {
		many += fmt.Sprintf("\n f%d: id", i)
	}
	for _, text := range []string{
		"{}", "[]", "x", "colection: x", "collection: ''", "collection: 7", "collection: clerksync_state",
		"collection: system.users",
		"collection: a$b", "collection: a.", "key: a.b", "key: primary_email", "key: $a", "key: '7'",
		"key: public_metadata",
		"state: _id", "state: a.b", "fields: {}", "fields: []", "fields:", "fields: {_id: id}", "fields: {_id.a: id}",
		"fields: {'': id}", "fields: {a..b: id}", "fields: {$a: id}", "fields: {a.0.b: id}",
		"fields: {a.b.c.d.e.f.g.h.i: id}",
		"fields: {a: }", "fields: {a: imageUrl}", "fields: {a: 7}", "fields: {a: private_metadata.x}",
		"fields: {a: public_metadata.}",
		"fields: {a: {}}", "fields: {a: {form: id}}", "fields: {a: {from: id, value: 1}}",
		"fields: {a: {value: 1, absent: x}}",
		"fields: {a: {from: id, absent: 0}}", "fields: {a: {from: id, when: always}}",
		"fields: {a: {from: id, unique: yes please}}",
		"fields: {a: {from: id, unique: true}}", "fields: {a: {value: x, unique: true}}",
		"fields: {a: {from: username, unique: true, absent: x}}",
		"fields: {a: {from: username, unique: true, when: create}}",
		"collection: " + strings.Repeat("a", maxCollection+1),
		many,
	} {
		if _, err := Parse("f", []byte(text)); err == nil {
			t.Errorf("%s: Parse takes it", text)
		}
		if err := fits(text); err == nil {
			t.Errorf("%s: the schema takes it", text)
		}
	}
}
