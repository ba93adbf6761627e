//go:build race

package testenv

// Race tells whether the race detector is on.
const Race = true
