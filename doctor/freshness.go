package doctor

import (
	"context"

	"clerksync/freshness"
	"clerksync/store/database"
)

// freshness reports how old a change may be that is not in the rows, as a running service has last said, and why an app
// may not trust them.
func (d *doctor) freshness(ctx context.Context, say report) *Finding {
	r, there, err := freshness.Read(ctx, database.NewCheckpoints(d.db))
	age, known := r.Changes.Age(d.now)
	switch {
	case err != nil:
		return failed(err)
	case !there:
		return is(Skip, "not known yet: a running service says it every half minute")
	case r.Old(d.now):
		return is(Skip, "not known: no service has said it for %s", d.since(r.At))
	case r.Trusted && known:
		return is(OK, "the rows have every change that is older than %s; so it is since %s",
			d.since(d.now.Add(-age)), r.Since.UTC().Format("2006-01-02 15:04 MST"))
	}
	for _, reason := range r.Reasons {
		say(is(Warn, "%s", reason))
	}
	return nil
}
