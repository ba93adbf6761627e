package adopt

import (
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// validator is what a collection's $jsonSchema says. The zero validator allows everything.
// https://www.mongodb.com/docs/manual/reference/operator/query/jsonSchema/
type validator struct {
	schema bson.Raw
	other  bool // there is something in it besides $jsonSchema
}

func newValidator(c *Collection) validator {
	v := validator{}
	elements, _ := c.Validator.Elements() // of nil there are none
	for _, e := range elements {
		if e.Key() == "$jsonSchema" {
			v.schema, _ = e.Value().DocumentOK()
		} else {
			v.other = true
		}
	}
	return v
}

// at returns what the schema says of a path, and whether it names the path.
func (v validator) at(path string) (bson.Raw, bool) {
	schema := v.schema
	for name := range strings.SplitSeq(path, ".") {
		var ok bool
		if schema, ok = schema.Lookup("properties", name).DocumentOK(); !ok {
			return nil, false
		}
	}
	return schema, true
}

// requires tells whether every document must have something at a path.
func (v validator) requires(path string) bool { return slices.Contains(v.required(), path) }

// required returns the paths that every document must have.
func (v validator) required() (paths []string) {
	var walk func(schema bson.Raw, parent string, levels int)
	walk = func(schema bson.Raw, parent string, levels int) {
		names, _ := schema.Lookup("required").ArrayOK()
		values, _ := names.Values()
		for _, n := range values {
			name, ok := n.StringValueOK()
			if !ok || levels == 0 {
				continue
			}
			paths = append(paths, parent+name)
			if sub, ok := schema.Lookup("properties", name).DocumentOK(); ok {
				walk(sub, parent+name+".", levels-1)
			}
		}
	}
	walk(v.schema, "", maxDepth)
	return paths
}

// allows tells whether a value of a BSON type may be at a path, as far as bsonType, enum and the like say. kind is one
// of string, null, bool, date, int, double and objectId.
func (v validator) allows(path, kind string) bool {
	schema, ok := v.at(path)
	if !ok {
		return true
	}
	types := texts(schema.Lookup("bsonType"))
	for _, t := range texts(schema.Lookup("type")) { // JSON Schema's own word
		types = append(types, map[string]string{"boolean": "bool"}[t], t)
	}
	if kind == "string" && (hasKey(schema, "enum") || hasKey(schema, "pattern") || hasKey(schema, "minLength")) {
		return false // whatever Clerk has need not fit
	}
	if hasKey(schema, "enum") && kind == "null" {
		return false
	}
	number := kind == "int" || kind == "double"
	return len(types) == 0 || slices.Contains(types, kind) || number && slices.Contains(types, "number")
}

// closed tells whether documents may have no other fields than those that the schema names, and it does not name this
// one.
func (v validator) closed(name string) bool {
	more := v.schema.Lookup("additionalProperties")
	open, isBool := more.BooleanOK()
	_, named := v.at(name)
	return isBool && !open && !named
}

func hasKey(schema bson.Raw, key string) bool {
	_, err := schema.LookupErr(key)
	return err == nil
}

// texts returns a text, or the texts in a list.
func texts(v bson.RawValue) []string {
	if s, ok := v.StringValueOK(); ok {
		return []string{s}
	}
	var all []string
	list, _ := v.ArrayOK()
	values, _ := list.Values()
	for _, e := range values {
		if s, ok := e.StringValueOK(); ok {
			all = append(all, s)
		}
	}
	return all
}
