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

// The files of a template folder. One that is not there is the embedded one.
const (
	htmlFile = "welcome.html"
	textFile = "welcome.txt"
)

// defaultSubject is the subject if none is set.
const defaultSubject = "Welcome to {{.AppName}}"

// Data is what a template can use. Name and FirstName may be "".
type Data struct{ Name, FirstName, Email, AppName, AppURL string }

// Templates are the three of the welcome mail.
type Templates struct {
	subject, text *texttemplate.Template
	html          *htmltemplate.Template
}

// LoadTemplates reads welcome.html and welcome.txt from dir; "" is the embedded ones. The error joins all
// mistakes.
func LoadTemplates(dir, subject string) (*Templates, error) {
	files, err := fs.Sub(embedded, "templates")
	if err != nil {
		return nil, err
	}
	read := func(name string) (string, error) {
		b, err := fs.ReadFile(files, name)
		return string(b), err
	}
	if dir != "" {
		own := os.DirFS(dir)
		if _, err := fs.Stat(own, "."); err != nil {
			return nil, optionError("TemplateDir", "is no folder that can be read: set it to one with welcome.html and welcome.txt")
		}
		read = func(name string) (string, error) {
			b, err := fs.ReadFile(own, name)
			if err != nil {
				return "", optionError("TemplateDir", "has no "+name+" that can be read: put it there, 'clerksync mail preview' has both parts")
			}
			return string(b), nil
		}
	}
	if subject == "" {
		subject = defaultSubject
	}
	t := &Templates{}
	var errs []error
	if t.subject, err = texttemplate.New("subject").Parse(subject); err != nil {
		errs = append(errs, optionError("Subject", "is no template: "+err.Error()))
	}
	text, err := read(textFile)
	if err == nil {
		t.text, err = texttemplate.New(textFile).Parse(text)
	}
	errs = append(errs, err)
	html, err := read(htmlFile)
	if err == nil {
		t.html, err = htmltemplate.New(htmlFile).Parse(html)
	}
	return t, errors.Join(append(errs, err)...)
}

func (t *Templates) render(d Data) (Rendered, error) {
	var subject, text, html strings.Builder
	err := errors.Join(t.subject.Execute(&subject, d), t.text.Execute(&text, d), t.html.Execute(&html, d))
	if err != nil {
		return Rendered{}, fmt.Errorf("the welcome mail's template fails: %w", err)
	}
	return Rendered{Subject: oneLine(subject.String()), Text: text.String(), HTML: html.String()}, nil
}
