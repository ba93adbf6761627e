package doctor

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"clerksync/reach"
	"clerksync/webhook"
)

// endpoint returns the URL to try: the one that the operator gives, exactly, because Clerk posts to exactly that, or,
// if its path does not end with that of the webhooks, the URL of the webhooks below it.
func endpoint(given string) (*url.URL, error) {
	u, err := url.Parse(given)
	if err != nil {
		return nil, errors.New("it cannot be used: say https://HOST")
	}
	if !strings.HasSuffix(strings.TrimRight(u.Path, "/"), webhook.Path) {
		u.Path, u.RawPath = strings.TrimRight(u.Path, "/")+webhook.Path, ""
	}
	return u, nil
}

// shown returns the URL without what may be secret in it.
func shown(u *url.URL) string {
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
}

// reply is what was answered to a webhook.
type reply struct {
	code     int
	body     []byte // the beginning of it
	page     bool   // it is a web page
	location *url.URL
}

func (r reply) says(text string) bool { return bytes.Contains(r.body, []byte(text)) }

// post sends a webhook. It adds to the error what to do, and does not quote the URL, which may hold a password.
func post(req *http.Request) (reply, error) {
	res, err := webhook.Post(req)
	if err != nil {
		return reply{}, fmt.Errorf("it cannot be reached: %w", reach.Explain(err))
	}
	defer res.Body.Close()
	r := reply{code: res.StatusCode, page: strings.HasPrefix(res.Header.Get("Content-Type"), "text/html")}
	r.body, _ = io.ReadAll(io.LimitReader(res.Body, 1<<10)) // a part is enough
	r.location, _ = res.Location()                          // nil if there is none
	return r, nil
}

// url posts webhooks to the URL to which Clerk posts them: one without a signature, which the service must refuse, and
// then probes, which it must take.
func (d *doctor) url(ctx context.Context, say report) *Finding {
	to, err := endpoint(d.URL)
	if err != nil {
		return failed(err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to.String(), strings.NewReader("{}"))
	if err != nil {
		return is(Fail, "it cannot be used: say https://HOST")
	}
	req.Header.Set("Content-Type", "application/json")
	r, err := post(req)
	if err != nil {
		return failed(err)
	}
	if f := d.between(to, r); f != nil {
		return f
	}
	const answers = "the service answers at %s"
	say(when(to.Scheme != "https", Warn, answers+", but not over TLS: give Clerk an https URL", shown(to)),
		is(OK, answers+", and refuses what is not signed: the endpoint at Clerk must have exactly this URL", shown(to)))
	return d.probe(ctx, to)
}

// between says what stands between Clerk and the service, by the answer to a webhook without a signature. It returns
// nil if that is the service's own answer.
func (d *doctor) between(to *url.URL, r reply) *Finding {
	if r.code == http.StatusBadRequest && r.says(webhook.Unsigned) {
		return nil
	}
	code, at, page := r.code, "nowhere", ""
	aside := false // the redirect leads to another path than that of the webhooks
	if r.location != nil {
		at = shown(r.location)
		aside = strings.TrimRight(r.location.Path, "/") != strings.TrimRight(to.Path, "/")
	}
	if r.page {
		page = " with a web page"
	}
	return cmp.Or(
		when(code >= 300 && code < 400 && aside, Fail,
			"a redirect (%d to %s), as to a login, which Clerk takes for a failure: let POST %s through without it",
			code, at, to.Path),
		when(code >= 300 && code < 400, Fail,
			"a redirect (%d to %s), which Clerk takes for a failure: give Clerk the URL that it ends at", code, at),
		when(code == http.StatusUnauthorized || code == http.StatusForbidden, Fail,
			"%d: something before the service asks for a login: let POST %s through", code, to.Path),
		when(code == http.StatusNotFound && strings.HasSuffix(to.Path, "/"), Fail,
			"404: the path ends with a slash, which the service does not know: give Clerk the URL without it, %s",
			strings.TrimRight(shown(to), "/")),
		when(code == http.StatusNotFound && to.Path != webhook.Path && !strings.Contains(d.URL, webhook.Path), Fail,
			"404 at %s: the service is not there: say --url https://HOST, or exactly the URL of the endpoint at "+
				"Clerk, which must end with %s", shown(to), webhook.Path),
		when(code == http.StatusNotFound, Fail,
			"404: the service is not there: check the host, and that the proxy passes %s on", to.Path),
		when(code == http.StatusMethodNotAllowed, Fail,
			"405: POST is not let through, or another service is there: check the host and the proxy"),
		when(code >= 500, Fail, "%d: the proxy does not reach the service, or the service not its database", code),
		is(Fail, "%d%s, which is not the service's answer to an unsigned webhook: check the host and the proxy",
			code, page))
}

const (
	// compact is a probe that a proxy which reads JSON and writes it again leaves as it is.
	compact = `{"data":{},"object":"event","type":"` + webhook.ProbeType + `"}`
	// spaced is a probe that such a proxy changes.
	spaced = "{ \"type\": \"" + webhook.ProbeType + "\",\n  \"object\": \"event\", \"data\": {\"n\": 1.0} }\n"
)

// secretsName is the setting of the signing secrets.
const secretsName = "CLERK_WEBHOOK_SIGNING_SECRET" //nolint:gosec // G101: it is the name, and no secret

// probe tries whether the service takes what each of the signing secrets signs.
func (d *doctor) probe(ctx context.Context, to *url.URL) *Finding {
	secrets := d.Config.Secrets()
	if len(secrets) == 0 || len(d.Mistakes.Only(secretsName)) > 0 {
		return is(Skip, "the signing secret is not tried: set %s as the service has it", secretsName)
	}
	for i, secret := range secrets {
		name := secretsName
		if len(secrets) > 1 {
			name = fmt.Sprintf("secret %d in %s", i+1, secretsName)
		}
		r, err := signed(ctx, to, secret, compact)
		if err != nil {
			return failed(err)
		}
		if f := judge(r, name); f != nil {
			return f
		}
	}
	r, err := signed(ctx, to, secrets[0], spaced)
	return cmp.Or(failed(err),
		when(!r.says(webhook.Proven), Fail, "something before the service changes what is posted, so the signatures "+
			"of Clerk's webhooks are wrong when they arrive: let it pass the body on byte for byte"),
		is(OK, "it takes what %s signs", secretsName))
}

func signed(ctx context.Context, to *url.URL, secret, body string) (reply, error) {
	req, err := webhook.Signed(ctx, to.String(), secret, "msg_"+rand.Text(), []byte(body))
	if err != nil {
		return reply{}, err
	}
	return post(req)
}

// judge says what the answer to a probe means, or nil if the service has taken it. name is what the secret is called.
func judge(r reply, name string) *Finding {
	if r.code == http.StatusOK && r.says(webhook.Proven) {
		return nil
	}
	refused := r.code == http.StatusBadRequest
	return cmp.Or(
		when(refused && r.says(webhook.Unsigned), Fail,
			"something before the service removes the headers svix-id, svix-timestamp and svix-signature: "+
				"let them through"),
		when(refused && r.says("timestamp too"), Fail,
			"the clocks of this machine and of the service differ by more than five minutes: set them (NTP)"),
		when(refused, Fail, "the service does not take what %s signs: it has another signing secret, or something "+
			"before it changes what is posted: compare both with the endpoint's in Clerk's dashboard, Webhooks", name),
		when(r.code < 300, Fail, "%d, which is not the service's answer to a signed probe: another service takes "+
			"webhooks there, or a clerksync of another version: check the host", r.code),
		is(Fail, "%d to a signed probe, though an unsigned webhook reaches the service: check what stands before it",
			r.code))
}
