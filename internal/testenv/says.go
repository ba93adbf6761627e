package testenv

import (
	"io"
	"net"
	"testing"
)

// Says starts a TCP server that answers whatever it is sent with a text, and then closes the connection. With "" it
// says nothing, and leaves the connection open until the test ends. Says returns the server's address.
func Says(t testing.TB, text string) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = c.Read(make([]byte, 4096))
				if text == "" {
					<-t.Context().Done()
				}
				_, _ = io.WriteString(c, text)
				_ = c.Close()
			}()
		}
	}()
	return l.Addr().String()
}
