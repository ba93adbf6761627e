package mapping

import (
	"strings"

	"github.com/agnivade/levenshtein"
)

// suggestSource says which source is probably meant.
func suggestSource(name string) string {
	root, path, deep := strings.Cut(name, ".")
	if deep {
		switch Plain(root) {
		case Plain(Public), "metadata", "publicmeta":
			return "write " + Public + "." + path
		case Plain(Unsafe), "unsafemeta":
			return "write " + Unsafe + "." + path
		}
	}
	if source := Named(name); source != "" {
		return "did you mean " + source + "?"
	}
	var words []string
	for _, s := range Sources() {
		words = append(words, s.Name)
	}
	words = append(words, Public, Unsafe)
	if near := nearest(name, words); near != "" {
		return "did you mean " + near + "?"
	}
	return "take one of " + strings.Join(words, ", ")
}

// didYouMean names the word that is probably meant, or all of them.
func didYouMean(name string, words []string) string {
	if w := nearest(name, words); w != "" {
		return "did you mean " + w + "?"
	}
	return "known are " + strings.Join(words, ", ")
}

// nearest returns the word that differs least from name, or "" if none is near.
func nearest(name string, words []string) string {
	if len(name) > 60 {
		return ""
	}
	best, least := "", 1+min(2, len(name)/2)
	for _, w := range words {
		if d := levenshtein.ComputeDistance(Plain(name), Plain(w)); d < least {
			best, least = w, d
		}
	}
	return best
}
