package store

import "context"

// Mode is what Users.Write does with its writes.
type Mode int

// The modes.
const (
	// All writes what is not older than the row.
	All Mode = iota
	// Differing writes only where the row differs from Clerk. An equal row whose version begins with an older time than Clerk's
	// gets the newer version: else a late older event would win over what was compared.
	Differing
	// DryRun writes nothing and says what Differing would do.
	DryRun
)

// Result is what became of a Write.
type Result struct {
	Outcome Outcome
	// Fields are those in which the row differed, of an outcome Updated or Stale in the modes Differing and DryRun.
	Fields []Field
	// Version is that of the row as it was found; "" if there was none, or none of ours.
	Version string
	Err     error // why the write has to be repeated
}

// Write brings rows to what Clerk said of their users. It returns what became of each write, in their order; one that fails harms no
// other.
func (s *Users) Write(ctx context.Context, writes []Write, mode Mode) []Result {
	results := make([]Result, len(writes))
	var todo []int
	if mode == All {
		for i := range writes {
			todo = append(todo, i)
		}
	} else {
		diffs, err := s.Compare(ctx, writes)
		for i := range writes {
			if err != nil {
				results[i].Err = err
				continue
			}
			results[i].Outcome, results[i].Fields = diffs[i].Outcome, diffs[i].Fields
			if o := diffs[i].Outcome; mode == Differing && (o == Created || o == Updated) {
				todo = append(todo, i)
			}
		}
	}
	some := make([]Write, len(todo))
	for k, i := range todo {
		some[k] = writes[i]
	}
	for k, r := range s.WriteMany(ctx, some) {
		results[todo[k]].Outcome, results[todo[k]].Err = r.Outcome, r.Err
	}
	return results
}
