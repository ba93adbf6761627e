package testenv

import (
	"testing"

	"github.com/hashicorp/consul/sdk/freeport"
)

// FreePort returns a port of 127.0.0.1 for a program that a test starts, also for one that it stops and starts again.
// It belongs to the test until that ends: no other test gets it, in whichever process, and the system gives it to no
// client and no listener that takes any port.
func FreePort(t testing.TB) int {
	t.Helper()
	return FreePorts(t, 1)
}

// FreePorts returns the first of n such ports in a row.
func FreePorts(t testing.TB, n int) int {
	t.Helper()
	for range 100 {
		ports, err := freeport.Take(n)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { freeport.Return(ports) })
		if first := ports[0]; ports[n-1] == first+n-1 {
			return first
		}
	}
	t.Fatalf("found no %d free ports in a row", n)
	return 0
}
