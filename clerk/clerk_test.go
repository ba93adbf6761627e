package clerk_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"clerksync/clerk"

	"github.com/google/go-cmp/cmp"
)

func TestParseUser(t *testing.T) {
	t.Parallel()
	verified := `"verification":{"status":"verified","strategy":"email_code"}`
	for name, tc := range map[string]struct {
		json string
		want clerk.User
	}{
		"a whole user": {
			`{"id":"user_a","object":"user","username":"ada","first_name":" Ada","last_name":"Lovelace ",` +
				`"image_url":"https://img.example/a","banned":true,"locked":true,"deprovisioned":true,` +
				`"primary_email_address_id":"idn_1","email_addresses":[{"id":"idn_1",` +
				`"email_address":"ada@example.com",` + verified + `}],` +
				`"created_at":1767603600000,"updated_at":1767603600018,"a_new_field":{"x":[1]}}`,
			clerk.User{
				ID: "user_a", Username: "ada", FullName: "Ada Lovelace", Email: "ada@example.com", EmailVerified: true,
				ImageURL: "https://img.example/a", Banned: true, Locked: true, Deprovisioned: true,
				CreatedAt: 1767603600000, ChangedAt: 1767603600018,
			},
		},
		"nothing but the id": {`{"id":"user_a"}`, clerk.User{ID: "user_a"}},
		"all null": {
			`{"id":"user_a","username":null,"first_name":null,"last_name":null,"image_url":null,` +
				`"email_addresses":null,"phone_numbers":null,"banned":null,"updated_at":null}`,
			clerk.User{ID: "user_a"},
		},
		"first name only": {
			`{"id":"user_a","first_name":"Ada","last_name":null}`, clerk.User{ID: "user_a", FullName: "Ada"},
		},
		"last name only": {
			`{"id":"user_a","first_name":"","last_name":"Lovelace"}`, clerk.User{ID: "user_a", FullName: "Lovelace"},
		},
		"somebody is null": {
			`{"id":"user_a","first_name":"Ada","last_name":"Null"}`, clerk.User{ID: "user_a", FullName: "Ada Null"},
		},
		"the primary last": {
			`{"id":"user_a","primary_email_address_id":"idn_2","email_addresses":[{"id":"idn_1",` +
				`"email_address":"new@example.com","verification":null},{"id":"idn_2",` +
				`"email_address":"ada@example.com",` + verified + `}]}`, clerk.User{
				ID: "user_a", Email: "ada@example.com", EmailVerified: true,
			},
		},
		"unverified is primary": {
			`{"id":"user_a","primary_email_address_id":"idn_2","email_addresses":[{"id":"idn_1",` +
				`"email_address":"a@example.com",` + verified +
				`},{"id":"idn_2","email_address":"b@example.com","verification":{"status":"unverified"}}]}`,
			clerk.User{ID: "user_a", Email: "b@example.com"},
		},
		"a dangling primary": {
			`{"id":"user_a","primary_email_address_id":"idn_9","email_addresses":[{"id":"idn_1",` +
				`"email_address":"new@example.com","verification":null},{"id":"idn_2",` +
				`"email_address":"ada@example.com",` + verified + `}]}`,
			clerk.User{ID: "user_a", Email: "ada@example.com", EmailVerified: true},
		},
		"none verified": {
			`{"id":"user_a","primary_email_address_id":null,"email_addresses":[{"id":"idn_0","email_address":""},` +
				`{"id":"idn_1","email_address":"a@example.com"},{"id":"idn_2","email_address":"b@example.com"}]}`,
			clerk.User{ID: "user_a", Email: "a@example.com"},
		},
		"a dangling id and none": {
			`{"id":"user_a","primary_email_address_id":"idn_9","email_addresses":[]}`, clerk.User{ID: "user_a"},
		},
		"an address is newest": {
			`{"id":"user_a","updated_at":1767603600000,"email_addresses":[{"id":"i","email_address":"a@example.com",` +
				`"created_at":1767603700000,"updated_at":1767603700001}]}`, clerk.User{
				ID: "user_a", Email: "a@example.com", ChangedAt: 1767603700001,
			},
		},
		"a phone is newest": {
			`{"id":"user_a","updated_at":1767603600000,"phone_numbers":[{"created_at":1767603700000}]}`, clerk.User{
				ID: "user_a", ChangedAt: 1767603700000,
			},
		},
		"an account is newest": {
			`{"id":"user_a","updated_at":1767603600000,"external_accounts":[{"updated_at":1767603700000}],` +
				`"saml_accounts":[{"updated_at":1}],"passkeys":["idn_1"],"web3_wallets":{}}`, clerk.User{
				ID: "user_a", ChangedAt: 1767603700000,
			},
		},
		"in seconds": {
			`{"id":"user_a","created_at":1767603600,"updated_at":"2026-01-05T09:00:01.5Z"}`, clerk.User{
				ID: "user_a", CreatedAt: 1767603600000, ChangedAt: 1767603601500,
			},
		},
		"invalid UTF-8": {
			"{\"id\":\"user_a\",\"first_name\":\"A\xff\"}", clerk.User{ID: "user_a", FullName: "A\ufffd"},
		},
		"duplicate keys": {`{"id":"user_b","id":"user_a"}`, clerk.User{ID: "user_a"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := clerk.ParseUser(json.RawMessage(tc.json))
			if err != nil {
				t.Fatal(err)
			}
			tc.want.Object = got.Object
			if d := cmp.Diff(tc.want, got); d != "" {
				t.Errorf("user (-want +got):\n%s", d)
			}
		})
	}
}

func TestNotUser(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ json, want string }{
		"nothing":               {``, "no object"},
		"null":                  {`null`, "no object"},
		"broken":                {`{"id":`, "not JSON"},
		"no id":                 {`{"object":"user"}`, "no id"},
		"an id that is null":    {`{"id":null}`, "no id"},
		"an id that is a list":  {`{"id":[1]}`, `"id" is a array`},
		"an id with NUL":        {`{"id":"user_\u0000"}`, "no Clerk id"},
		"an endless id":         {`{"id":"` + strings.Repeat("u", 300) + `"}`, "no Clerk id"},
		"an organization":       {`{"id":"org_1","object":"organization"}`, "another thing"},
		"a deletion":            {`{"id":"user_a","deleted":true}`, "a deletion"},
		"a name that is a list": {`{"id":"user_a","first_name":["secret"]}`, `"first_name" is a array`},
		"addresses no list":     {`{"id":"user_a","email_addresses":{"secret":1}}`, `"email_addresses" is a object`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := clerk.ParseUser(json.RawMessage(tc.json))
			if !errors.Is(err, clerk.ErrNotUser) || !strings.Contains(err.Error(), tc.want) ||
				strings.Contains(err.Error(), "secret") {
				t.Errorf("got %v, want ErrNotUser with %q", err, tc.want)
			}
		})
	}
}

func TestParseDeleted(t *testing.T) {
	t.Parallel()
	id, err := clerk.ParseDeleted(json.RawMessage(`{"deleted":true,"id":"user_a","object":"user","external_id":"x"}`))
	if id != "user_a" || err != nil {
		t.Errorf("got %q, %v, want user_a", id, err)
	}
}

func TestMillis(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]clerk.Millis{
		`0`:                           0,
		`null`:                        0,
		`1767603600018`:               1767603600018,
		`1767603600`:                  1767603600000,
		`1767603600.5`:                1767603600500,
		`1.767603600018e12`:           1767603600018,
		`"1767603600"`:                1767603600000,
		`"2026-01-05T10:00:00+01:00"`: 1767603600000,
		`941000000000`:                941000000000, // October 1999 in milliseconds: imports are back-dated
		`-1767603600018`:              0,
		`1e300`:                       9999999999999,
		`99999999999999999999999999`:  9999999999999,
		`"soon"`:                      0,
		`{}`:                          0,
		`true`:                        0,
	} {
		var got clerk.Millis
		if err := json.Unmarshal([]byte(in), &got); err != nil || got != want {
			t.Errorf("%s: got %d, %v, want %d", in, got, err, want)
		}
	}
	if got, want := clerk.Millis(1767603600018).Time(), time.Date(2026, 1, 5, 9, 0, 0, 18e6,
		time.UTC); !got.Equal(want) || got.Location() != time.UTC {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := clerk.Millis(0).Time(); !got.IsZero() {
		t.Errorf("got %v, want the zero time", got)
	}
}

func TestUnwrap(t *testing.T) {
	t.Parallel()
	const user = `{"id":"user_a"}`
	for name, tc := range map[string]struct {
		json, user, instance string
		at                   clerk.Millis
	}{
		"flat":   {user, user, "", 0},
		"nested": {`{"data":` + user + `,"raw":"x"}`, user, "", 0},
		"envelope": {
			`{"data":` + user + `,"timestamp":1767603600,"instance_id":"ins_1"}`, user, "ins_1", 1767603600000,
		},
		"envelope in a wrapper": {
			`{"data":{"data":` + user + `,"timestamp":1767603600000,"instance_id":"ins_1"}}`, user, "ins_1",
			1767603600000,
		},
		"a user with data": {`{"id":"user_a","data":{"id":"user_b"}}`, `{"id":"user_a","data":{"id":"user_b"}}`, "", 0},
		"no object":        {`[1]`, `[1]`, "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := clerk.Unwrap(json.RawMessage(tc.json))
			if string(p.User) != tc.user || p.InstanceID != tc.instance || p.Timestamp != tc.at {
				t.Errorf("got %s %q %d, want %s %q %d", p.User, p.InstanceID, p.Timestamp, tc.user, tc.instance, tc.at)
			}
		})
	}
}

func FuzzUser(f *testing.F) {
	f.Add([]byte(`{"id":"user_a","object":"user","email_addresses":[{"id":"i","email_address":"a@b",` +
		`"verification":null}],"updated_at":1}`))
	f.Add([]byte(`{"id":"user_a","first_name":"\ud800","created_at":"2026-01-05T09:00:00Z","passkeys":[[[]]]}`))
	f.Add([]byte(`{"data":{"data":{"id":"x"}}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		p := clerk.Unwrap(b)
		u, err := clerk.ParseUser(p.User)
		if err != nil {
			if !errors.Is(err, clerk.ErrNotUser) {
				t.Errorf("got %v, want ErrNotUser", err)
			}
			return
		}
		if u.ID == "" || u.FullName != strings.TrimSpace(u.FullName) {
			t.Errorf("got %+v", u)
		}
		if v := fmt.Sprintf("%013d", u.ChangedAt); len(v) != 13 {
			t.Errorf("a version needs 13 digits, got %s", v)
		}
		pruned, err := clerk.WithoutSecrets(p.User, false)
		if says(err, "beyond 64 bits") {
			return
		}
		if err != nil {
			t.Fatalf("WithoutSecrets: %v", err)
		}
		if again, err := clerk.ParseUser(pruned); err != nil || again.ID != u.ID || again.Email != u.Email {
			t.Errorf("without secrets it is %+v, %v, want %+v", again, err, u)
		}
	})
}
