package testenv

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
)

// Proxy is a TCP proxy that can be made to fail. It ends with the test.
type Proxy struct {
	Addr  string
	proxy *toxiproxy.Proxy
}

// NewProxy starts a proxy on a loopback port, which it keeps while it refuses, for the server at upstream, HOST:PORT.
func NewProxy(t testing.TB, upstream string) *Proxy {
	t.Helper()
	// A proxy cannot be made without a server.
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(prometheus.NewRegistry()), zerolog.Nop())
	p := toxiproxy.NewProxy(server, upstream, fmt.Sprint("127.0.0.1:", FreePort(t)), upstream)
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Stop)
	return &Proxy{Addr: p.Listen, proxy: p}
}

// Refuse ends every connection and takes no new one until heal is called.
func (p *Proxy) Refuse(t testing.TB) (heal func()) {
	t.Helper()
	p.proxy.Stop()
	return func() {
		if err := p.proxy.Start(); err != nil {
			t.Error(err)
		}
	}
}

// Poison adds one of toxiproxy's toxics to what the server sends (https://github.com/Shopify/toxiproxy#toxics) until
// heal is called.
func (p *Proxy) Poison(t testing.TB, toxic string, attributes map[string]any) (heal func()) {
	t.Helper()
	b, err := json.Marshal(map[string]any{
		"name": toxic, "type": toxic, "stream": "downstream", "attributes": attributes,
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.proxy.Toxics.AddToxicJson(strings.NewReader(string(b))); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := p.proxy.Toxics.RemoveToxic(t.Context(), toxic); err != nil {
			t.Error(err)
		}
	}
}
