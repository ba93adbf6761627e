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

// at returns what the schema says of a path, or nil.
func (v validator) at(path string) bson.Raw {
	schema := v.schema
	for name := range strings.SplitSeq(path, ".") {
		schema, _ = schema.Lookup("properties", name).DocumentOK()
	}
	return schema
}

// requires tells whether every document must have something at a path.
func (v validator) requires(path string) bool { return slices.Contains(v.required(), path) }

// required returns the paths that every document must have.
func (v validator) required() (paths []string) {
	var walk func(schema bson.Raw, parent string, levels int)
	walk = func(schema bson.Raw, parent string, levels int) {
		for _, name := range texts(schema.Lookup("required")) {
			paths = append(paths, parent+name)
			if sub, ok := schema.Lookup("properties", name).DocumentOK(); ok && levels > 1 {
				walk(sub, parent+name+".", levels-1)
			}
		}
	}
	walk(v.schema, "", maxDepth)
	return paths
}

// allows tells whether a value of a BSON type may be at a path, by its bsonType. kind is one of string, null, bool,
// date, object and objectId.
func (v validator) allows(path, kind string) bool {
	types := texts(v.at(path).Lookup("bsonType"))
	return len(types) == 0 || slices.Contains(types, kind)
}

// closed tells whether documents may have no other fields than those that the schema names, and it does not name this
// one.
func (v validator) closed(name string) bool {
	open, isBool := v.schema.Lookup("additionalProperties").BooleanOK()
	return isBool && !open && v.at(name) == nil
}

// has tells whether the schema limits a path in one of these ways.
func (v validator) has(path string, rules ...string) bool {
	return slices.ContainsFunc(rules, func(rule string) bool { return v.at(path).Lookup(rule).Type != 0 })
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
