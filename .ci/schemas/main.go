// Command schemas writes the JSON Schemas that kubeconform wants out of the OpenAPI file that Kubernetes' own module
// has: a file KIND-GROUP-VERSION.json for each kind, into the folder that is its second argument.
package main

import (
	"encoding/json"
	"log"
	"os"
	"path/filepath"
	"strings"
)

const (
	definitions = "#/definitions/"
	kinds       = "x-kubernetes-group-version-kind"
	quantity    = "io.k8s.apimachinery.pkg.api.resource.Quantity"
	intOrString = "io.k8s.apimachinery.pkg.util.intstr.IntOrString"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 3 {
		log.Fatal("usage: schemas swagger.json FOLDER")
	}
	if err := write(os.Args[1], os.Args[2]); err != nil {
		log.Fatal(err)
	}
}

func write(file, folder string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var spec struct {
		Definitions map[string]map[string]any `json:"definitions"`
	}
	if err := json.Unmarshal(text, &spec); err != nil {
		return err
	}
	all := spec.Definitions
	// What OpenAPI 2 has no words for: both are numbers too.
	all[quantity]["type"] = []string{"string", "number"}
	all[intOrString] = map[string]any{"type": []string{"string", "integer"}}
	for _, d := range all {
		if _, ok := d["properties"]; ok {
			d["additionalProperties"] = false // a server drops a field that it does not know, silently
		}
	}
	for name, d := range all {
		list, _ := d[kinds].([]any)
		for _, k := range list {
			gvk := k.(map[string]any)
			if err := writeKind(all, name, filepath.Join(folder, fileName(gvk))); err != nil {
				return err
			}
		}
	}
	return nil
}

// fileName is what kubeconform's {{.ResourceKind}}{{.KindSuffix}} becomes: of the group only its first word.
func fileName(gvk map[string]any) string {
	parts := []string{gvk["kind"].(string)}
	if group, _, _ := strings.Cut(gvk["group"].(string), "."); group != "" {
		parts = append(parts, group)
	}
	return strings.ToLower(strings.Join(append(parts, gvk["version"].(string)), "-")) + ".json"
}

// writeKind writes the definition of that name with those it needs.
func writeKind(all map[string]map[string]any, name, file string) error {
	need := map[string]any{}
	var add func(v any)
	add = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			ref, _ := v["$ref"].(string)
			if to, ok := strings.CutPrefix(ref, definitions); ok && need[to] == nil {
				need[to] = all[to]
				add(all[to])
			}
			for _, w := range v {
				add(w)
			}
		case []any:
			for _, w := range v {
				add(w)
			}
		}
	}
	root := map[string]any{"$ref": definitions + name}
	add(root)
	root["definitions"] = need
	text, err := json.Marshal(root)
	if err != nil {
		return err
	}
	return os.WriteFile(file, text, 0o600)
}
