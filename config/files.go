package config

import "strings"

// fromFiles puts the secrets that files have into values, and returns the names of those that cannot be had, with what
// is wrong. Nothing is quoted, not even a path: some write the secret itself where the path belongs.
func fromFiles(values map[string]string, read func(path string) (string, error)) (unread []string, wrong []problem) {
	for _, s := range Settings() {
		path := values[s.File]
		if s.File == "" || path == "" { // an empty variable is one that is not set, as everywhere
			continue
		}
		if values[s.Name] != "" {
			wrong = append(wrong, problem{true, s.Name, "and " + s.File + " are both set", "unset one of them"})
			continue
		}
		text, err := read(path)
		text = withoutNewline(text)
		switch {
		case err != nil:
			wrong = append(wrong, problem{
				true, s.Name, "cannot be read: " + err.Error() + " (" + s.File + ")",
				"set " + s.File + " to a file that this process can read and that has the value alone, or unset it",
			})
		case strings.TrimSpace(text) == "":
			wrong = append(wrong, problem{
				true, s.Name, "is empty in the file that " + s.File + " names",
				"write the value there, or unset " + s.File,
			})
		default:
			values[s.Name] = text
			continue
		}
		unread = append(unread, s.Name)
	}
	return unread, wrong
}

// withoutNewline cuts off the end of the last line, which editors and echo write. It cuts no other white space, which
// might be part of a password.
func withoutNewline(s string) string {
	return strings.TrimSuffix(strings.TrimSuffix(s, "\n"), "\r")
}
