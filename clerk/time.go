package clerk

import (
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"time"
)

// Millis is a time in milliseconds since 1970, which is how Clerk writes times; 0 means none. It can also be read from
// what Clerk's examples and older payloads contain instead: seconds, fractions, numbers in quotes and RFC 3339. Any
// other value is read as 0: a time that cannot be read must not keep a user from being written.
type Millis int64

// secondsBelow tells seconds from milliseconds. Read as seconds it is in the year 5138, as milliseconds in March 1973,
// so no time of a user is on the wrong side, not even a back-dated one.
const secondsBelow = 100_000_000_000

// latest is the last millisecond that fits into the 13 digits of a version. It is in the year 2286.
const latest = 9_999_999_999_999

// UnmarshalJSON never fails; see Millis.
func (m *Millis) UnmarshalJSON(b []byte) error {
	*m = 0
	s := string(b)
	if strings.HasPrefix(s, `"`) {
		_ = json.Unmarshal(b, &s) // if this fails, s is not a number either
		if t, err := time.Parse(time.RFC3339Nano, s); err == nil {
			*m = clamp(float64(t.UnixMilli()))
			return nil
		}
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsNaN(f) {
		return nil
	}
	if math.Abs(f) < secondsBelow {
		f *= 1000
	}
	*m = clamp(f)
	return nil
}

// Time returns the time in UTC, or the zero time for 0.
func (m Millis) Time() time.Time {
	if m == 0 {
		return time.Time{}
	}
	return time.UnixMilli(int64(m)).UTC()
}

func clamp(ms float64) Millis {
	return Millis(min(max(ms, 0), latest))
}
