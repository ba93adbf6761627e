package mapping

import (
	"bytes"
	"encoding/json"
)

// Schema returns the JSON Schema (draft 7, which editors know) of the file that Load reads. It finds most mistakes that
// Load finds: not those between two fields.
func Schema() string {
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	_ = enc.Encode(schema()) // it has texts, lists and maps alone
	return text.String()
}

type object = map[string]any

const (
	step = `[^.$\x00][^.\x00]*` // of a path: no dot, no $ at its beginning, no NUL
	top  = "^" + step + "$"
)

func schema() object {
	number := object{"pattern": `(^|\.)[0-9]+(\.|$)`}
	return object{
		"$schema":     "http://json-schema.org/draft-07/schema#",
		"title":       "clerksync.yaml",
		"description": "Which fields of which collection clerksync writes: docs/mapping.md of clerksync.",
		"type":        "object", "minProperties": 1, "additionalProperties": false,
		"properties": object{
			"collection": object{
				"description": "The app's collection of users.", "type": "string", "default": Default().Collection,
				"minLength": 1, "maxLength": maxCollection,
				"not": object{"pattern": `^(clerksync_|system\.)|[$\x00]|^\.|\.$`},
			},
			"key": object{
				"description": "The field that holds Clerk's id of the user.",
				"type":        "string", "default": IDField, "pattern": top,
				"not": object{"anyOf": []any{number, object{"enum": notKeys()}}},
			},
			"state": object{
				"description": "The field in which clerksync keeps its own state.",
				"type":        "string", "default": Default().State, "pattern": top,
				"not": object{"anyOf": []any{number, object{"const": IDField}}},
			},
			"fields": object{
				"description": "The app's fields, each with what is written to it. They replace the default ones.",
				"type":        "object", "minProperties": 1, "maxProperties": maxFields,
				"propertyNames": object{
					"pattern": `^` + step + `(\.` + step + `){0,7}$`,
					"not":     object{"anyOf": []any{number, object{"pattern": `^_id(\.|$)`}}},
				},
				"additionalProperties": object{
					"anyOf": []any{object{"$ref": "#/definitions/source"}, object{"$ref": "#/definitions/long"}},
				},
			},
		},
		"definitions": object{"source": schemaOfSource(), "long": schemaOfLong()},
	}
}

// notKeys are the sources that nobody would name a field with Clerk's id after, see checkKey.
func notKeys() (names []string) {
	for _, s := range Sources() {
		if checkKey(s.Name) != "" {
			names = append(names, s.Name)
		}
	}
	return append(names, Public, Unsafe)
}

func schemaOfSource() object {
	var sources []any
	for _, s := range Sources() {
		note := s.Note
		if s.Warn != "" {
			note += "; " + s.Warn
		}
		sources = append(sources, object{"const": s.Name, "description": note})
	}
	for _, name := range []string{Public, Unsafe} {
		s, _ := LookUp(name)
		note := s.Note + ", such as " + name + ".plan"
		if s.Warn != "" {
			note += "; " + s.Warn
		}
		sources = append(sources, object{"pattern": "^" + name + `(\.[^.]+)*$`, "description": note})
	}
	return object{"description": "What of Clerk's user is written.", "type": "string", "anyOf": sources}
}

func schemaOfLong() object {
	has := func(keys ...string) object { return object{"required": keys} }
	return object{
		"type": "object", "additionalProperties": false,
		"properties": object{
			"from":  object{"$ref": "#/definitions/source"},
			"value": object{"description": "A constant: text, number, true, false, null, date, list or map."},
			"absent": object{
				"description": "What is written if Clerk's user has no such value: unset removes the field; else " +
					"null or a text.",
				"type": []string{"string", "null"}, "default": "unset",
			},
			"when": object{"description": "Written only when the row is made.", "const": "create"},
			"unique": object{
				"description": "With from: username: the user name that no other row " +
					"has.", "type": "boolean", "default": false,
			},
		},
		"oneOf": []any{
			has("from"),
			object{"required": []string{"value"}, "not": has("absent")},
		},
		"if": object{"required": []string{"unique"}, "properties": object{"unique": object{"const": true}}},
		"then": object{
			"required":   []string{"from"},
			"properties": object{"from": object{"const": "username"}},
			"not":        object{"anyOf": []any{has("absent"), has("when")}},
		},
	}
}
