package activity

import (
	"math"
	"slices"
	"time"
)

// kept is for how many minutes it is known what happened in each, the one that has not ended included.
const kept = 60

// minute is what happened in one minute.
type minute struct {
	Start   int64          // in minutes since 1970
	Taken   int            // webhooks that were answered 2xx
	Refused map[string]int // the other webhooks, by reason
	Lags    []int          // how many changes took as long as bucket i, see bucket
}

// minutes are the last minutes in which something happened, in any order.
type minutes []*minute

// at returns the minute of now, and forgets those that are too old. If the clock was wrong, it also forgets those that
// are ahead by more than a step of the clock makes.
func (all *minutes) at(now time.Time) *minute {
	start := now.Unix() / 60
	if n := len(*all); n > 0 && (*all)[n-1].Start == start {
		return (*all)[n-1]
	}
	*all = slices.DeleteFunc(*all, func(m *minute) bool { return m.Start <= start-kept || m.Start > start+1 })
	m := &minute{Start: start, Refused: map[string]int{}}
	if i := slices.IndexFunc(*all, func(m *minute) bool { return m.Start == start }); i >= 0 {
		m = (*all)[i]
		*all = slices.Delete(*all, i, i+1)
	}
	*all = append(*all, m) // the current one is the last
	return m
}

// The buckets of lags: bucket i has those of at most firstBucket*2^(i/4), so that a percentile is at most 19 % too
// high, whether the lags are milliseconds or days. The last bucket also has all that are longer than a week.
const (
	firstBucket = 10 * time.Millisecond
	lastBucket  = 104
)

func bucket(lag time.Duration) int {
	if lag <= firstBucket { // less than 0 if Clerk's clock is ahead
		return 0
	}
	return min(lastBucket, int(math.Ceil(4*math.Log2(float64(lag)/float64(firstBucket)))))
}

func upTo(bucket int) time.Duration {
	return time.Duration(float64(firstBucket) * math.Exp2(float64(bucket)/4))
}

// lag counts a change that took that long from Clerk to the row.
func (m *minute) lag(d time.Duration) {
	i := bucket(d)
	if missing := i + 1 - len(m.Lags); missing > 0 {
		m.Lags = append(m.Lags, make([]int, missing)...)
	}
	m.Lags[i]++
}

// percentile returns how long at most q of all changes took, q being over 0 and at most 1. It returns 0 if there are
// none.
func percentile(lags []int, q float64) time.Duration {
	n := 0
	for _, c := range lags {
		n += c
	}
	rank := int(math.Ceil(q * float64(n)))
	for i, c := range lags {
		if rank -= c; rank <= 0 && n > 0 {
			return upTo(i)
		}
	}
	return 0
}
