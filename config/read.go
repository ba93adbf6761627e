package config

import (
	"cmp"
	"errors"
	"reflect"
	"slices"
	"strings"

	"github.com/caarlos0/env/v11"
)

// Setting is a setting as the tags of its field describe it.
type Setting struct {
	Name, Default, Description, want string

	// File is the variable that may name a file with the setting's value instead: NAME_FILE. It is "" for a setting
	// that is no secret.
	File string
}

// String returns the setting's line in --help: its description, what it may be set to, its default, and its
// other variable.
func (s Setting) String() string {
	text := s.Description
	if s.want != "" {
		text += ": " + s.want
	}
	if s.Default != "" {
		text += " (default " + s.Default + ")"
	}
	if s.File != "" {
		text += " (or " + s.File + ")"
	}
	return text
}

// Settings returns all settings in the order of their declaration.
func Settings() []Setting { return settingsOf(reflect.TypeFor[Config](), "") }

func settingsOf(t reflect.Type, prefix string) []Setting {
	var all []Setting
	for _, f := range reflect.VisibleFields(t) {
		name, ok := f.Tag.Lookup("env")
		if !f.IsExported() {
			continue
		}
		if !ok {
			all = append(all, settingsOf(f.Type, prefix+f.Tag.Get("envPrefix"))...)
			continue
		}
		s := Setting{
			Name: prefix + name, Default: f.Tag.Get("envDefault"), Description: f.Tag.Get("desc"),
			want: f.Tag.Get("want"),
		}
		if _, secret := f.Tag.Lookup("sec"); secret {
			s.File = s.Name + "_FILE"
		}
		switch f.Type.String() {
		case "bool":
			s.want = cmp.Or(s.want, "true or false")
		case "time.Duration":
			s.want = cmp.Or(s.want, "a duration such as "+s.Default)
		}
		all = append(all, s)
	}
	return all
}

// Mistake says what is wrong with a setting. Its text is one line that begins with the setting's name, says what to do,
// and quotes no secret.
type Mistake struct{ Name, Text string }

// Mistakes are the mistakes in some settings.
type Mistakes []Mistake

// Only returns the mistakes in settings whose names begin with one of the prefixes.
func (m Mistakes) Only(prefixes ...string) Mistakes {
	return slices.DeleteFunc(slices.Clone(m), func(m Mistake) bool {
		return !slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(m.Name, p) })
	})
}

// Err returns an error with a line for each mistake, in the order in which Config declares the settings, or nil if
// there are none.
func (m Mistakes) Err() error {
	settings := Settings()
	place := func(m Mistake) int {
		return slices.IndexFunc(settings, func(s Setting) bool { return s.Name == m.Name })
	}
	sorted := slices.Clone(m)
	slices.SortStableFunc(sorted, func(a, b Mistake) int { return cmp.Compare(place(a), place(b)) })
	var errs []error
	for _, mistake := range sorted {
		errs = append(errs, errors.New(mistake.Text))
	}
	return errors.Join(errs...)
}

// Read reads the settings from environ. It returns a mistake for each value that cannot be read, such as a duration
// without a unit, and gives that setting its default. Check finds the other mistakes.
//
// A secret may come from a file, which the variable NAME_FILE names: then readFile returns the text of the file at that
// path. Its error says what is wrong, without the path. Where there are no files, readFile may be nil.
func Read(environ []string, readFile func(path string) (string, error)) (Config, Mistakes) {
	values := env.ToMap(environ)
	unread, unreadable := fromFiles(values, readFile)
	for _, s := range Settings() {
		v, set := values[s.Name]
		alone := env.Options{Environment: map[string]string{s.Name: v}}
		if set && env.ParseWithOptions(&Config{}, alone) != nil {
			unreadable = append(unreadable, problem{true, s.Name, "cannot be read", ""})
			delete(values, s.Name)
		}
	}
	var c Config
	_ = env.ParseWithOptions(&c, env.Options{Environment: values}) // the remaining values can be read
	c.unread = unread
	c.otherName = OtherName(func(name string) string { return values[name] })
	return c, mistakes(unreadable)
}

// problem says whether something is wrong with the setting called name, what it is, and what to do. If do is "", the
// advice is to set it to what its tag want says.
type problem struct {
	wrong          bool
	name, what, do string
}

// mistakes returns a Mistake for each problem that is wrong. It writes the texts of all mistakes.
func mistakes(problems []problem) Mistakes {
	wants := map[string]string{}
	for _, s := range Settings() {
		wants[s.Name] = s.want
	}
	var all Mistakes
	for _, p := range problems {
		if p.wrong {
			do := cmp.Or(p.do, "set it to "+wants[p.name]+", or leave it unset")
			all = append(all, Mistake{p.name, p.name + " " + p.what + ": " + do})
		}
	}
	return all
}

// OtherName returns the variable that has the signing secret of Clerk's webhooks by a name that guides and apps give
// it, or "". value returns the value of a variable. The names without CLERK are other services' too, such as Stripe's,
// whose secrets also begin with whsec_: so a value is never taken from them.
func OtherName(value func(name string) string) string {
	for _, name := range []string{
		"CLERK_WEBHOOK_SECRET", "CLERK_WEBHOOK_SECRET_KEY", "CLERK_WEBHOOK_SIGNING_KEY", "CLERK_WEBHOOK_KEY",
		"CLERK_WEBHOOKS_SECRET", "CLERK_SIGNING_SECRET", "NEXT_CLERK_WEBHOOK_SECRET",
		"SVIX_SECRET", "WEBHOOK_SECRET", "SIGNING_SECRET",
	} {
		v := strings.TrimSpace(value(name))
		if strings.HasPrefix(v, "whsec_") || v != "" && strings.Contains(name, "CLERK") {
			return name
		}
	}
	return ""
}
