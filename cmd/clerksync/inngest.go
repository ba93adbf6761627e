package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"time"

	"clerksync/config"
)

// Errors of Inngest's answers that callers branch on.
var (
	errRefused = errors.New("the key is not accepted")
	errNoLists = errors.New("this Inngest does not list functions")
)

// probeEvent is sent to see whether Inngest takes events; no function listens to it.
const probeEvent = "clerksync/doctor.checked"

// inngestAPI asks the Inngest that the settings name.
type inngestAPI struct{ config.Inngest }

// name says which Inngest it is.
func (c inngestAPI) name() string {
	switch {
	case c.IsDev():
		return "the dev server"
	case c.BaseURL != "":
		return "your Inngest"
	}
	return "Inngest Cloud"
}

// sendProbe sends an event that does nothing. The error is errRefused if the event key is not accepted.
func (c inngestAPI) sendProbe(ctx context.Context, key string) error {
	body := []byte(`[{"name":"` + probeEvent + `","data":{}}]`)
	_, err := c.ask(ctx, http.MethodPost, c.EventURL()+"/e/"+url.PathEscape(key), "", body)
	return err
}

// functionIDs returns Inngest's ids of the functions that an Inngest of one's own has for the app, none if it does not
// know the app. The error is errRefused if the signing key is not accepted, and errNoLists if this Inngest does not
// tell.
func (c inngestAPI) functionIDs(ctx context.Context, signingKey string) ([]string, error) {
	b, err := c.ask(ctx, http.MethodGet, c.APIURL()+"/v1/apps/"+url.PathEscape(c.AppID)+"/functions", hashed(signingKey), nil)
	if s := answered(0); errors.As(err, &s) && s == http.StatusNotFound {
		return nil, errNoLists
	}
	if err != nil {
		return nil, err
	}
	var all []struct {
		Slug     string    `json:"id"`
		Archived time.Time `json:"archived_at"`
	}
	if json.Unmarshal(b, &all) != nil {
		return nil, errNoLists
	}
	var ids []string
	for _, f := range all {
		if f.Archived.Year() <= 1 {
			ids = append(ids, f.Slug)
		}
	}
	return ids, nil
}

// checkCloudKey asks Inngest's cloud something harmless. The error is errRefused if the signing key is not accepted.
func (c inngestAPI) checkCloudKey(ctx context.Context, signingKey string) error {
	// As it is: https://api-docs.inngest.com/authentication
	_, err := c.ask(ctx, http.MethodGet, c.APIURL()+"/v1/events?limit=1&name="+url.QueryEscape(probeEvent), signingKey, nil)
	return err
}

// answered is the status of an answer other than 2xx.
type answered int

func (s answered) Error() string {
	return fmt.Sprintf("it answers %d %s", int(s), http.StatusText(int(s)))
}

// ask returns the body of a 2xx answer. No error quotes the URL, which may hold the event key.
func (c inngestAPI) ask(ctx context.Context, method, to, bearer string, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, to, bytes.NewReader(body))
	if err != nil {
		return nil, withoutURL(err)
	}
	if bearer != "" {
		req.Header.Set("Authorization", "Bearer "+bearer)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.Env != "" {
		req.Header.Set("X-Inngest-Env", c.Env)
	}
	res, err := (&http.Client{}).Do(req)
	if err != nil {
		return nil, withoutURL(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, maxCall))
	switch {
	case res.StatusCode == http.StatusUnauthorized || res.StatusCode == http.StatusForbidden:
		return nil, errRefused
	case res.StatusCode >= http.StatusMultipleChoices:
		return nil, answered(res.StatusCode)
	}
	return b, err
}

// hashed is how the SDKs show a signing key to Inngest's API: the hash of its bytes. A server of one's own takes the
// key itself too, but may be reached without TLS.
func hashed(key string) string {
	prefix := regexp.MustCompile(`^signkey-\w+-`).FindString(key)
	raw, err := hex.DecodeString(key[len(prefix):])
	if key == "" || err != nil { // the dev server, or the settings' check has said so
		return ""
	}
	sum := sha256.Sum256(raw)
	return prefix + hex.EncodeToString(sum[:])
}

// withoutURL takes the URL out of an error of a request.
func withoutURL(err error) error {
	if e := (*url.Error)(nil); errors.As(err, &e) {
		return e.Err
	}
	return err
}
