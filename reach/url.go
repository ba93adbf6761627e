package reach

import (
	"fmt"
	"regexp"
	"strings"
)

// Unescaped says which characters in the user name or the password of a URL have to be escaped, and as what, or that
// there is a placeholder instead of a password. The text continues a sentence whose subject is the URL or the setting
// that holds it, and quotes neither of them. It is "" if there is nothing of the kind.
//
// It is for URLs that cannot be read, or that lead nowhere: some programs take some of these characters as they are.
func Unescaped(uri string) string {
	_, rest, ok := strings.Cut(uri, "://")
	at := strings.LastIndexByte(rest, '@')
	if !ok || at < 0 {
		return ""
	}
	name, password, found := strings.Cut(rest[:at], ":")
	// An @ in an option, such as mongodb://host:27017/?appName=a@b, ends no password.
	option := regexp.MustCompile(`^\d*/[^/?]*\?\w+=`).MatchString(password)
	if option || !found && strings.ContainsAny(name, "/?") {
		return "has an '@' after the host: write it %40"
	}
	for _, part := range []struct{ what, text string }{{"password", password}, {"user name", name}} {
		if as := escapes(part.text); len(as) > 0 {
			return fmt.Sprintf("has a %s in which %s", part.what, strings.Join(as, ", and "))
		}
	}
	return ""
}

// escapes says of each character of text that has to be escaped how it is written.
func escapes(text string) (as []string) {
	bare := regexp.MustCompile("%[0-9A-Fa-f]{2}").ReplaceAllString(text, "")
	for _, c := range "@:/?#[]% " {
		if strings.ContainsRune(bare, c) {
			as = append(as, fmt.Sprintf("%q must be written %%%02X", c, c))
		}
	}
	return as
}

// Placeholder tells whether the user name or the password of a URL is the placeholder of an example, such as
// <db_password> in the connection strings that MongoDB Atlas shows.
func Placeholder(uri string) bool {
	return regexp.MustCompile(`(?i)://[^/]*<(db_)?(user|username|password)>[^/]*@`).MatchString(uri)
}
