//go:build race

package e2e_test

// raceFlags have the binary built as the tests are: with the race detector, which writes what it finds to the log.
var raceFlags = []string{"-race"}
