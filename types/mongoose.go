package types

import (
	"fmt"
	"slices"
	"strings"

	"clerksync/store"
	"clerksync/store/mapping"
)

// Mongoose returns a mongoose model of the collection as an ES module, for mongoose 8 and 9. Nothing in it is required
// and nothing has a default, so that every document loads and can be saved, and save() writes no field of clerksync's.
// Its indexes are declared as clerksync makes them, so that mongoose neither refuses nor drops them.
func Mongoose(m *mapping.Map) string {
	var b strings.Builder
	b.WriteString(`// Printed by: clerksync types --format mongoose. Print it anew when the map changes.
// With require() instead of import: const mongoose = require("mongoose"); and module.exports = { User }; at the end.
import mongoose from "mongoose";

const user = new mongoose.Schema({
  // Written by clerksync: read these fields, and change none of them. Let none be required: Clerk's users need not have
  // an address, a name or a picture. save() sends only what you have changed, so it overwrites nothing here.
`)
	for _, f := range document(m).fields {
		f.mongoose(&b, "  ")
	}
	b.WriteString(`
  // Fields of your own, such as
  // plan: { type: String, default: "free" },
}, { ` + options(m) + ` });
`)
	if m.Key != mapping.IDField || m.Username() != "" {
		b.WriteString("\n// These indexes are clerksync's: declared here, syncIndexes() does not drop them.\n")
	}
	if m.Key != mapping.IDField {
		fmt.Fprintf(&b, "user.index({ %s: 1 }, { name: %s, unique: true, %s });\n",
			property(m.Key), text(store.KeyIndex), partial(m.Key))
	}
	if name := m.Username(); name != "" {
		fmt.Fprintf(&b, "user.index({ %s: 1 }, { unique: true, sparse: true });\n", property(name))
	}
	title := "\n// Where a value may be there only once, let the index leave out the users who have none:\n"
	for _, f := range m.Fields {
		ownID := slices.Contains([]string{"primary_email", "primary_phone", "external_id"}, f.From)
		if ownID && f.Absent == (mapping.Absent{}) {
			fmt.Fprintf(&b, "%s// user.index({ %s: 1 }, { unique: true, %s });\n",
				title, property(f.Path), partial(f.Path))
			title = ""
		}
	}
	fmt.Fprintf(&b, `
// overwriteModels: a hot reload, as Next.js does it, runs this file again.
export const User = mongoose.model("User", user, %s, { overwriteModels: true });
`, text(m.Collection))
	return b.String()
}

func (n *node) mongoose(b *strings.Builder, indent string) {
	fmt.Fprintf(b, "%s%s: ", indent, property(n.name))
	if n.kind == object {
		b.WriteString("{\n")
		for _, f := range n.fields {
			f.mongoose(b, indent+"  ")
		}
		fmt.Fprintf(b, "%s},\n", indent)
		return
	}
	kind := map[mapping.Kind]string{
		mapping.Text: "String", mapping.Bool: "Boolean", mapping.Date: "Date", mapping.Number: "Number",
	}[n.kind]
	if kind == "" || n.text {
		kind = "mongoose.Schema.Types.Mixed"
	}
	if n.name == "type" { // else mongoose takes it for the type of the object that it is in
		kind = "{ type: " + kind + " }"
	}
	fmt.Fprintf(b, "%s, // %s\n", kind, comment(n.about))
}

// options returns the options of the schema. Times of writes that clerksync keeps are mongoose's timestamps too: the
// app's writes count as well.
func options(m *mapping.Map) string {
	all := "collection: " + text(m.Collection)
	created, updated := "false", "false"
	for _, f := range m.Fields {
		switch {
		case f.From == mapping.Now && f.Create:
			created = timestamp(f.Path, "createdAt")
		case f.From == mapping.Now:
			updated = timestamp(f.Path, "updatedAt")
		}
	}
	switch {
	case created == "true" && updated == "true":
		all += ", timestamps: true"
	case created != "false" || updated != "false":
		all += fmt.Sprintf(", timestamps: { createdAt: %s, updatedAt: %s }", created, updated)
	}
	return all
}

// timestamp returns the option for a timestamp at a path. Where the path is the usual one, the types of mongoose can
// only read true.
func timestamp(path, usual string) string {
	if path == usual {
		return "true"
	}
	return text(path)
}

// partial returns the option of an index that leaves out the documents in which the field is absent, null or "".
func partial(path string) string {
	return fmt.Sprintf(`partialFilterExpression: { %s: { $gt: "" } }`, property(path))
}
