package mapping

import _ "embed"

//go:embed clerksync.schema.json
var schema string

// Schema returns the JSON Schema (draft 7, which editors know) of the file that Load reads. It finds most mistakes that
// Load finds: not those between two fields.
func Schema() string { return schema }
