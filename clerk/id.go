package clerk

import (
	"math/big"
	"strings"
	"time"
)

// base62 are the digits of a KSUID, in the order of their values.
const base62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// UserIDPrefix is how every id of a user begins.
const UserIDPrefix = "user_"

// IsUserID tells whether an id has the form of Clerk's user ids: UserIDPrefix and a KSUID, which is 27 characters of
// base62 (https://github.com/segmentio/ksuid). A row with any other id belongs to the app.
func IsUserID(id string) bool {
	ksuid, ok := strings.CutPrefix(id, UserIDPrefix)
	return ok && len(ksuid) == 27 && strings.Trim(ksuid, base62) == ""
}

// UserIDMadeAt returns when Clerk made a user's id, to the second, or the zero time if IsUserID is false. For an
// imported user that is later than CreatedAt.
func UserIDMadeAt(id string) time.Time {
	if !IsUserID(id) {
		return time.Time{}
	}
	n, base := new(big.Int), big.NewInt(int64(len(base62)))
	for _, digit := range id[len(UserIDPrefix):] {
		n.Add(n.Mul(n, base), big.NewInt(int64(strings.IndexRune(base62, digit))))
	}
	// A KSUID is 20 bytes: the seconds since 2014-05-13T16:53:20Z in 4 bytes, then 16 random bytes.
	return time.Unix(1_400_000_000+n.Rsh(n, 128).Int64(), 0)
}
