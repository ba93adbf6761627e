package mapping

import (
	"slices"
	"strings"
)

// suggestSource says which source is probably meant.
func suggestSource(name string) string {
	root, path, deep := strings.Cut(name, ".")
	if deep {
		switch normal(root) {
		case normal(Public), "metadata", "publicmeta":
			return "write " + Public + "." + path
		case normal(Unsafe), "unsafemeta":
			return "write " + Unsafe + "." + path
		}
	}
	var names []string
	for _, s := range Sources() {
		names = append(names, s.Name)
	}
	names = append(names, Public, Unsafe)
	near := synonym(normal(name))
	if near == "" {
		near = nearest(name, names)
	}
	if near != "" {
		return "did you mean " + near + "?"
	}
	return "take one of " + strings.Join(names, ", ")
}

// synonym returns the source for names by which Clerk's SDKs, and apps, call it; "" if it knows none.
func synonym(name string) string {
	switch name {
	case "email", "emailaddress", "emailaddresses", "mail", "primaryemailaddress", "primaryemailaddressid":
		return "primary_email"
	case "emailverification", "isemailverified", "verified", "isverified":
		return "email_verified"
	case "image", "img", "picture", "photo", "photourl", "pictureurl", "avatar", "avatarurl", "profileimage",
		"profileimageurl", "profilepicture", "profilepic", "profilephoto":
		return "image_url"
	case "name", "displayname":
		return "full_name"
	case "givenname", "forename":
		return "first_name"
	case "familyname", "surname":
		return "last_name"
	case "phone", "mobile", "phonenumber", "phonenumbers", "primaryphonenumber", "primaryphonenumberid":
		return "primary_phone"
	case "clerkid", "clerkuserid", "userid", "sub", "uid":
		return "id"
	case "handle", "nickname", "login":
		return "username"
	case "role", "roles", "plan":
		return Public + "." + name
	case "metadata":
		return Public
	case "lastlogin", "lastloginat", "lastsignin", "lastactiveat":
		return "last_sign_in_at"
	case "signedupat", "joinedat", "registeredat":
		return "created_at"
	case "date", "time", "timestamp", "currenttime", "syncedat":
		return Now
	case "language", "lang":
		return "locale"
	case "mfa", "2fa", "twofactor", "mfaenabled":
		return "two_factor_enabled"
	}
	return ""
}

// normal removes what differs between image_url, imageUrl and Image-URL.
func normal(name string) string {
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune("_- \t", r) {
			return -1
		}
		return r
	}, strings.ToLower(name))
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
		if d := distance(normal(name), normal(w)); d < least {
			best, least = w, d
		}
	}
	return best
}

// distance returns how many letters have to be changed, added or removed to make b of a (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range a {
		next := slices.Clone(row)
		next[0] = i + 1
		for j := range b {
			change := row[j]
			if a[i] != b[j] {
				change++
			}
			next[j+1] = min(change, row[j+1]+1, next[j]+1)
		}
		row = next
	}
	return row[len(b)]
}
