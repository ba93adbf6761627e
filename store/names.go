package store

import (
	"crypto/sha256"
	"encoding/base32"
	"slices"
	"strings"

	"clerksync/clerk"
)

// names returns the user names that a user may get, best first: Clerk's own, else the local part of the e-mail address,
// else one made of the id; each followed by the same with suffixes that depend on the id alone, so that a retry finds
// the same name.
func names(u clerk.User) []string {
	local, _, _ := strings.Cut(u.Email, "@")
	sum := sha256.Sum256([]byte(u.ID))
	h := strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:]))
	short, long := h[:6], h[:26] // 30 bits; 130 bits, which do not meet
	base := u.Username
	if base == "" {
		base = local
	}
	if base == "" {
		return []string{"user-" + h[:10], "user-" + long}
	}
	return []string{base, base + "-" + short, base + "-" + long}
}

// keepsName tells whether a row keeps the user name that it has: one that was given once stays, unless Clerk has one.
func keepsName(was found, u clerk.User) bool { return u.Username == "" && was.Username != "" }

// suffixed tells whether a row has the user name that Clerk gave, but for a suffix because it was taken.
func suffixed(was found, u clerk.User) bool {
	return u.Username != "" && slices.Contains(names(u)[1:], was.Username)
}
