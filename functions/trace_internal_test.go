package functions

import "testing"

// TestNoTrace: without a Trace, a run costs nothing more.
func TestNoTrace(t *testing.T) {
	f := &Functions{}
	if n := testing.AllocsPerRun(100, func() {
		_, done := f.begin(t.Context(), "sync-user-from-clerk", nil)
		done(nil)
	}); n > 0 {
		t.Errorf("it allocates %v times", n)
	}
}
