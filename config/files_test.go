package config

import (
	"errors"
	"io/fs"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

// files is a folder of files by their paths.
type files map[string]string

func (f files) read(path string) (string, error) {
	if text, ok := f[path]; ok {
		return text, nil
	}
	return "", fs.ErrNotExist
}

// TestSecretsFromFiles: every secret can come from a file, with or without a newline at its end, and is the same as if
// it came from the environment.
func TestSecretsFromFiles(t *testing.T) {
	t.Parallel()
	n := 0
	unset, _ := Read(nil, nil)
	for _, s := range Settings() {
		if s.File == "" {
			continue
		}
		n++
		want, _ := Read([]string{s.Name + "= hunter2 "}, nil)
		for _, newline := range []string{"", "\n", "\r\n"} {
			read := files{"/run/it": " hunter2 " + newline}.read
			got, mistakes := Read([]string{s.Name + "=", s.File + "=/run/it"}, read)
			if len(mistakes) > 0 || !reflect.DeepEqual(got, want) || reflect.DeepEqual(got, unset) {
				t.Errorf("%s, and %q at the end: got %+v and %v, want %+v", s.File, newline, got, mistakes, want)
			}
		}
	}
	if n < 10 {
		t.Errorf("got %d secrets, want all ten", n)
	}
}

// TestOnlyOneNewlineIsCut: more would be a guess, and the settings' own checks say what is wrong with the rest.
func TestOnlyOneNewlineIsCut(t *testing.T) {
	t.Parallel()
	c, _ := Read([]string{"CLERK_SECRET_KEY_FILE=it"}, files{"it": "a\n\n"}.read)
	if c.SecretKey != "a\n" {
		t.Errorf("got %q, want one newline less", c.SecretKey)
	}
}

// TestBadSecretFiles: a file that does not have the secret is one mistake, which names the setting and quotes nothing.
// It is never that the setting is not set.
func TestBadSecretFiles(t *testing.T) {
	t.Parallel()
	const do = " to a file that this process can read and that has the value alone, or unset it"
	there := func(text string) func(string) (string, error) { return files{"hunter2": text}.read }
	for name, tc := range map[string]struct {
		set  []string
		read func(string) (string, error)
		want string // NAME stands for the setting
	}{
		"none": {
			nil, files{}.read, "NAME cannot be read: file does not exist (NAME_FILE): set NAME_FILE" + do,
		},
		"refused": {
			nil, func(string) (string, error) { return "", errors.New("it is a folder") },
			"NAME cannot be read: it is a folder (NAME_FILE): set NAME_FILE" + do,
		},
		"empty": {
			nil, there(""), "NAME is empty in the file that NAME_FILE names: write the value there, or unset NAME_FILE",
		},
		"a line without anything": {
			nil, there(" \n\n"),
			"NAME is empty in the file that NAME_FILE names: write the value there, or unset NAME_FILE",
		},
		"both": {
			[]string{"NAME=hunter2"}, there("hunter2"), "NAME and NAME_FILE are both set: unset one of them",
		},
		"both, and no file": {
			[]string{"NAME=hunter2"}, files{}.read, "NAME and NAME_FILE are both set: unset one of them",
		},
	} {
		for _, s := range Settings() {
			if s.File == "" {
				continue
			}
			with := strings.NewReplacer("NAME", s.Name)
			environ := []string{s.File + "=hunter2"}
			for _, kv := range tc.set {
				environ = append(environ, with.Replace(kv))
			}
			c, mistakes := Read(environ, tc.read)
			if len(mistakes) != 1 || mistakes[0].Name != s.Name || mistakes[0].Text != with.Replace(tc.want) {
				t.Errorf("%s, %s: got %v, want %s", s.Name, name, mistakes, with.Replace(tc.want))
			}
			if all := c.Check().Only(s.Name); len(tc.set) == 0 {
				for _, m := range all {
					if m.Name == s.Name {
						t.Errorf("%s, %s: got another mistake, %s", s.Name, name, m.Text)
					}
				}
			}
		}
	}
}

// TestFileIsNotSet: an empty NAME_FILE is as one that is not there, and the file of a setting that is no secret is
// another program's.
func TestFileIsNotSet(t *testing.T) {
	t.Parallel()
	read := func(string) (string, error) { t.Error("a file is read"); return "", nil }
	c, mistakes := Read([]string{"MONGODB_URI_FILE=", "MONGODB_URI=mongodb://h", "PORT_FILE=x", "_FILE=x"}, read)
	if len(mistakes) > 0 || c.MongoURI != "mongodb://h" {
		t.Errorf("got %q and %v", c.MongoURI, mistakes)
	}
}

// TestNoSecretIsForgotten: a setting whose name or description is that of a secret has the tag, and is a text without a
// default. CLERK_WEBHOOK_SIGNING_SECRET, SMTP_URL and MONGODB_URI are such names.
func TestNoSecretIsForgotten(t *testing.T) {
	t.Parallel()
	secret := regexp.MustCompile(`SECRET|TOKEN|KEY|PASS|CREDENTIAL|HEADERS|_URI$|PASSWORD|\bkey\b|token|secret`)
	for _, s := range Settings() {
		if s.File == "" && secret.MatchString(s.Name+" "+s.Description+" "+s.want) {
			t.Errorf("%s seems to be a secret: tag its field with sec:\"\"", s.Name)
		}
		if s.File != "" && s.Default != "" {
			t.Errorf("%s is a secret with a default", s.Name)
		}
	}
}
