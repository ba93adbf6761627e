package store

import (
	"cmp"
	"crypto/sha256"
	"encoding/base32"
	"slices"
	"strings"

	"clerksync/clerk"
)

// names returns the user names that a user may get, the best one first: the name from Clerk, or else the local part of
// the e-mail address, or else a name made of the id. After it come the same name with a short and with a long suffix.
// The suffixes depend on the id alone, so a retry finds the same name.
func names(u clerk.User) []string {
	local, _, _ := strings.Cut(u.Email, "@")
	sum := sha256.Sum256([]byte(u.ID))
	h := strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:]))
	short, long := h[:6], h[:26] // 30 bits; 130 bits, which never collide
	base := cmp.Or(u.Username, local)
	if base == "" {
		return []string{"user-" + h[:10], "user-" + long}
	}
	return []string{base, base + "-" + short, base + "-" + long}
}

// keepsName tells whether a row keeps its user name, which it does unless Clerk has a user name for this user.
func keepsName(was found, u clerk.User) bool { return u.Username == "" && was.username != "" }

// suffixed tells whether a row has the user name from Clerk with a suffix, because another row had that name.
func suffixed(was found, u clerk.User) bool {
	return u.Username != "" && slices.Contains(names(u)[1:], was.username)
}
