package mail

import (
	"embed"
	"errors"
	"fmt"
	htmltemplate "html/template"
	"io/fs"
	"os"
	"strings"
	texttemplate "text/template"
)

//go:embed templates
var embedded embed.FS

// data is what a template can use. docs/mail.md describes it.
type data struct{ Name, FirstName, Email, AppName, AppURL string }

// templates are the three parts of the welcome mail.
type templates struct {
	subject, text *texttemplate.Template
	html          *htmltemplate.Template
}

// loadTemplates parses the subject, and the files welcome.html and welcome.txt in TemplateDir, or else the embedded
// ones. It reports each mistake to wrong, with the name of the option.
func loadTemplates(o Options, wrong func(option, format string, args ...any)) (t templates) {
	const textFile, htmlFile = "welcome.txt", "welcome.html"
	files, _ := fs.Sub(embedded, "templates") // it cannot fail
	var err error
	if o.TemplateDir != "" {
		files = os.DirFS(o.TemplateDir)
		if _, err = fs.Stat(files, "."); err != nil {
			wrong("TemplateDir", " is no folder that can be read: set it to one with %s and %s", htmlFile, textFile)
			return t
		}
	}
	if t.subject, err = texttemplate.New(o.name("Subject")).Parse(o.Subject); err != nil {
		wrong("Subject", " is no template: %v", err)
	}
	check := func(file string, parsed error) {
		if _, err := fs.ReadFile(files, file); err != nil {
			wrong("TemplateDir", ": %s cannot be read: put it there, 'clerksync mail preview' has both parts", file)
		} else if parsed != nil {
			wrong("TemplateDir", ": %v", parsed)
		}
	}
	t.text, err = texttemplate.ParseFS(files, textFile)
	check(textFile, err)
	t.html, err = htmltemplate.ParseFS(files, htmlFile)
	check(htmlFile, err)
	return t
}

// Render fills in the templates for a user.
func (m *Mailer) Render(u User) (subject, text, html string, err error) {
	name := oneLine(u.FullName)
	firstName, _, _ := strings.Cut(name, " ")
	d := data{Name: name, FirstName: firstName, Email: u.Email, AppName: m.o.AppName, AppURL: m.o.AppURL}
	var s, t, h strings.Builder
	if err := errors.Join(m.subject.Execute(&s, d), m.text.Execute(&t, d), m.html.Execute(&h, d)); err != nil {
		return "", "", "", fmt.Errorf("the welcome mail's template fails: %w", err)
	}
	return oneLine(s.String()), t.String(), h.String(), nil
}
