package clerk

import (
	"math/big"
	"strings"
	"time"
)

// base62 are the digits of a KSUID, in the order of their values.
const base62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// UserIDPrefix begins every id of a user.
const UserIDPrefix = "user_"

// IsUserID tells whether an id is of the form that Clerk gives its users: UserIDPrefix and a KSUID, which is 27 base62
// characters (https://github.com/segmentio/ksuid). A row with another id is the app's own business.
func IsUserID(id string) bool {
	ksuid, ok := strings.CutPrefix(id, UserIDPrefix)
	return ok && len(ksuid) == 27 && strings.Trim(ksuid, base62) == ""
}

// UserIDMadeAt returns when Clerk made the id of a user, to the second; for what IsUserID refuses, the zero time. An
// imported user's is later than its CreatedAt.
func UserIDMadeAt(id string) time.Time {
	if !IsUserID(id) {
		return time.Time{}
	}
	n, base := new(big.Int), big.NewInt(int64(len(base62)))
	for _, digit := range id[len(UserIDPrefix):] {
		n.Add(n.Mul(n, base), big.NewInt(int64(strings.IndexRune(base62, digit))))
	}
	// 20 bytes: 4 of seconds since 2014-05-13T16:53:20Z, and 16 at random.
	return time.Unix(1_400_000_000+n.Rsh(n, 128).Int64(), 0)
}
