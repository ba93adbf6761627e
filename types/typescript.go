package types

import (
	"fmt"
	"strings"

	"clerksync/store/mapping"
)

// TypeScript returns an interface of the documents that clerksync has written. What is readonly there is kept up to
// date by clerksync.
func TypeScript(m *mapping.Map) string {
	var b strings.Builder
	b.WriteString(`// Printed by: clerksync types --format typescript. Print it anew when the map changes.

/**
 * A document that clerksync has written, in the collection ` + comment(m.Collection) + `.
 * What is readonly it keeps up to date, and the app changes none of it.
 * A document that it has not written yet is a Partial<User>.
`)
	if m.Key != mapping.IDField {
		b.WriteString(" * _id is an ObjectId, which mongoose and the driver add to the type themselves.\n")
	}
	b.WriteString(" */\nexport interface User {\n")
	for _, f := range document(m).fields {
		f.typeScript(&b, "  ")
	}
	b.WriteString(`
  // Fields of your own, such as
  // plan?: string;
}
`)
	return b.String()
}

func (n *node) typeScript(b *strings.Builder, indent string) {
	if n.about != "" {
		fmt.Fprintf(b, "%s/** %s */\n", indent, comment(n.about))
	}
	name := property(n.name)
	if !n.once {
		name = "readonly " + name
	}
	if n.mayLack() {
		name += "?"
	}
	fmt.Fprintf(b, "%s%s: ", indent, name)
	kind := map[mapping.Kind]string{
		mapping.Text: "string", mapping.Bool: "boolean", mapping.Date: "Date", mapping.Number: "number",
	}[n.kind]
	switch {
	case n.kind == object:
		b.WriteString("{\n")
		for _, f := range n.fields {
			f.typeScript(b, indent+"  ")
		}
		kind = indent + "}"
		if n.mayLack() { // the app may have set it to null
			kind += " | null"
		}
	case kind == "":
		kind = "unknown"
	case n.null:
		kind += " | null"
	case n.text:
		kind += " | string"
	}
	b.WriteString(kind + ";\n")
}
