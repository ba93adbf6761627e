package mapping

import _ "embed"

//go:embed clerksync.schema.json
var schema string

// Schema returns the JSON Schema (draft 7, which editors know) of the file that Load reads. It finds most mistakes that
// Load finds: not those between two fields. It is written by hand; a test compares its sources with Sources.
func Schema() string { return schema }
