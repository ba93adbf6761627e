package config

import "testing"

func TestNameInURI(t *testing.T) {
	t.Parallel()
	for uri, want := range map[string]string{
		"mongodb://h":                     "",
		"mongodb://h/":                    "",
		"mongodb://h/app":                 "app",
		"mongodb://u:p@h1:1,h2:2/app?w=1": "app",
		"mongodb+srv://h/?retryWrites=1":  "",
	} {
		if got := nameInURI(uri); got != want {
			t.Errorf("nameInURI(%q) = %q, want %q", uri, got, want)
		}
	}
}
