package dev

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"clerksync/internal/textfile"
	"clerksync/webhook"

	"github.com/joho/godotenv"
)

// maxEnvFile is the size of the largest file of settings that is read, in bytes.
const maxEnvFile = 256 << 10

// Names are the variables that FromEnvFiles may take.
type Names struct {
	Secret string // a signing secret of webhooks
	Key    string // a key of Clerk's API, which is taken only if it is a development instance's
	// Other returns the variable that seems to have the signing secret by another name, or "".
	Other func(value func(name string) string) string
}

// FromEnvFiles returns what an app's files of settings in the working folder have of the two variables, as NAME=value,
// if isSet does not say that the environment has them. It takes nothing else: an app's files name its production
// database and its mail server too. It says what it takes from which file, and why it passes a value or a file over, in
// one line each that quotes no value.
func FromEnvFiles(n Names, isSet func(name string) bool, say func(format string, args ...any)) []string {
	var taken, from, hints []string
	has := func(name string) bool {
		return isSet(name) || strings.Contains("\n"+strings.Join(taken, "\n"), "\n"+name+"=")
	}
	for _, file := range []string{".env.local", ".env"} { // the one that wins first, as Next.js and Vite read them
		values, err := readEnvFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			say("%s is passed over: %v; set %s in the environment", file, err, n.Secret)
			continue
		}
		for _, name := range []string{n.Secret, n.Key} {
			v := values[name]
			if v == "" || has(name) {
				continue
			}
			if why := n.refuses(name, v); why != "" {
				say("%s in %s is not taken: it %s", name, file, why)
				continue
			}
			taken, from = append(taken, name+"="+v), append(from, name+" from "+file)
		}
		if other := n.Other(func(name string) string { return values[name] }); other != "" {
			hints = append(hints, fmt.Sprintf(
				"%s in %s is not taken: if that is the endpoint's signing secret, you mean %s", other, file, n.Secret))
		}
	}
	if len(from) > 0 {
		say("took %s; nothing else in there is used", strings.Join(from, " and "))
	}
	if !has(n.Secret) {
		for _, hint := range hints {
			say("%s", hint)
		}
	}
	return taken
}

// refuses says why a value is not taken, or "".
func (n Names) refuses(name, v string) string {
	if name == n.Key {
		if !strings.HasPrefix(v, "sk_test_") {
			return "is not a development instance's (sk_test_…); set it in the environment if you mean it"
		}
		return ""
	}
	for secret := range strings.FieldsFuncSeq(v, func(r rune) bool { return strings.ContainsRune(", \t\r\n", r) }) {
		if err := webhook.CheckSecret(secret); err != nil {
			return err.Error() + "; copy it again from Clerk's dashboard, Webhooks"
		}
	}
	return ""
}

// readEnvFile returns the variables in a file. The error is fs.ErrNotExist if there is none. The errors quote nothing
// of the file, as the library's do.
func readEnvFile(file string) (map[string]string, error) {
	text, err := textfile.Read(file, maxEnvFile)
	if errors.Is(err, textfile.ErrFolder) { // such as Python's virtual environment
		return nil, fs.ErrNotExist
	}
	if err != nil {
		return nil, err
	}
	values, err := godotenv.Unmarshal(text)
	if err != nil {
		return nil, errors.New("it has something else than lines NAME=value, or a quote without an end")
	}
	return values, nil
}
