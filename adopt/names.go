package adopt

import (
	"slices"
	"strings"

	"clerksync/store/mapping"
)

// personal returns the sources that describe a person, and by whose names a field is known.
func personal() []string {
	return []string{
		"primary_email", "first_name", "last_name", "full_name", "username", "image_url", "primary_phone",
	}
}

// parents are the documents in which a name is the user's own: profile.name is, company.name is not.
const parents = " profile user userinfo userdata userprofile account personal personalinfo personaldetails basicinfo" +
	" info details data identity person contact contactinfo clerk clerkuser clerkdata auth publicprofile "

// namedFor returns the source that a path is named after, or "". profile.avatar.url is a picture.
func namedFor(path string) string {
	segments := strings.Split(path, ".")
	name := last(path)
	if len(segments) == 1 {
		return mapping.Named(name)
	}
	parent := mapping.Plain(segments[len(segments)-2])
	if source := mapping.Named(name); source != "" && strings.Contains(parents, " "+parent+" ") {
		return source
	}
	return mapping.Named(parent + name) // avatar.url, name.first
}

// last returns the last name of a path, see mapping.Plain.
func last(path string) string { return mapping.Plain(path[strings.LastIndex(path, ".")+1:]) }

// isPersonal tells whether a field is named after what describes a person.
func (f *field) isPersonal() bool {
	return slices.Contains(personal(), namedFor(f.path)) && f.texts() > 0
}

// hasWord tells whether a path's last name has one of the words in it.
func hasWord(path string, words ...string) bool {
	return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(last(path), w) })
}

// isReference tells whether a field seems to say who did something to the row, and not whose row it is.
func isReference(path string) bool {
	return strings.HasSuffix(last(path), "by") || strings.HasSuffix(last(path), "byid") ||
		hasWord(path, "owner", "author", "creator", "sender", "receiver", "invite", "refer", "parent", "assign")
}

// isSecret tells whether nothing of a field may be proposed or printed.
func isSecret(path string) bool {
	return hasWord(path, "password", "passwd", "token", "secret", "hash", "salt", "apikey")
}

// isPrivileged tells whether a role seems to give more rights than others.
func isPrivileged(role string) bool {
	return slices.ContainsFunc([]string{"admin", "owner", "super", "root", "staff", "moderator", "manager"},
		func(s string) bool { return strings.Contains(mapping.Plain(role), s) })
}
