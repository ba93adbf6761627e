package testenv

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"clerksync/store"
)

// Webhook is one message of Clerk.
type Webhook struct {
	ID   string // svix-id
	Type string
	Body []byte
	Data json.RawMessage // what Inngest's own integration sends of it
}

// History is the life of one user at Clerk, in the order in which it happened.
type History struct {
	UserID   string
	Webhooks []Webhook
	Want     *store.Row // how the row has to end, but for its user name and its times; nil if the user is deleted
}

// Histories returns the lives of n users, of one to six webhooks each: some phone-only, some with the primary address last, some
// without a name or with an awkward one, many that want the same user name, some deleted.
func Histories(t testing.TB, rng *rand.Rand, n int) []History {
	t.Helper()
	all := make([]History, n)
	for i := range all {
		all[i] = history(t, rng, fmt.Sprintf("user_2e2e%05d%s", i, letters(rng, 12)))
	}
	return all
}

func letters(rng *rand.Rand, n int) string {
	var b strings.Builder
	for range n {
		b.WriteByte("ABCDEFGHJKLMNPQRSTUVWXYZ"[rng.IntN(24)])
	}
	return b.String()
}

func history(t testing.TB, rng *rand.Rand, id string) History {
	t.Helper()
	pick := func(of ...string) string { return of[rng.IntN(len(of))] }
	now := int64(1767603600000 + rng.IntN(1e9))
	want := store.Row{ID: id, ProfilePicture: "https://img.example/" + id}
	data := map[string]any{
		"id": id, "object": "user", "created_at": now, "image_url": want.ProfilePicture, "username": nil,
		"first_name": nil, "last_name": nil, "primary_email_address_id": nil, "external_id": nil,
		"phone_numbers": []any{}, "email_addresses": []any{}, "external_accounts": []any{},
		"public_metadata": map[string]any{}, "private_metadata": map[string]any{}, "unsafe_metadata": map[string]any{},
		"banned": false, "locked": false,
	}
	mail := pick("ada", "grace", "alan") + "@" + strings.ToLower(letters(rng, 8)) + ".example"
	switch rng.IntN(4) {
	case 0: // phone-only
		data["phone_numbers"] = []any{map[string]any{"id": "idn_p", "phone_number": "+15555550100", "backup_codes": []any{"backup-" + letters(rng, 8)}, "created_at": now, "updated_at": now}}
	case 1: // a new address, not verified, stands first
		data["email_addresses"] = []any{address("idn_new", "new@unverified.example", false, now), address("idn_1", mail, true, now)}
		data["primary_email_address_id"] = "idn_1"
		want.Email = mail
	default:
		data["email_addresses"] = []any{address("idn_1", mail, true, now)}
		data["primary_email_address_id"] = "idn_1"
		want.Email = mail
	}
	want.Clerk.EmailVerified = want.Email != ""

	h := History{UserID: id}
	add := func(typ string, data any) {
		raw, err := json.Marshal(data)
		if err != nil {
			t.Fatal(err)
		}
		body, err := json.Marshal(map[string]any{
			"type": typ, "object": "event", "timestamp": now + 20, "instance_id": "ins_2e2e", "data": json.RawMessage(raw),
			"event_attributes": map[string]any{"http_request": map[string]any{"client_ip": "", "user_agent": ""}},
		})
		if err != nil {
			t.Fatal(err)
		}
		h.Webhooks = append(h.Webhooks, Webhook{ID: fmt.Sprintf("msg_%s_%d", id, len(h.Webhooks)), Type: typ, Body: body, Data: raw})
	}
	typ := "user.created"
	for range 1 + rng.IntN(6) { // created, 0 to 5 updates
		first, last := pick("", "Ada", "Zoë", "<b>Bob</b>", " 李 "), pick("", "Lovelace", "O'Neil", "null")
		data["first_name"], data["last_name"] = first, last
		want.FullName = strings.TrimSpace(strings.TrimSpace(first) + " " + strings.TrimSpace(last))
		want.Clerk.Banned = rng.IntN(10) == 0
		data["banned"], data["updated_at"] = want.Clerk.Banned, now
		add(typ, data)
		typ = "user.updated"
		now += 1 + int64(rng.IntN(100_000))
	}
	h.Want = &want
	if rng.IntN(4) == 0 {
		add("user.deleted", map[string]any{"id": id, "object": "user", "deleted": true})
		h.Want = nil
	}
	return h
}

func address(id, mail string, verified bool, at int64) map[string]any {
	a := map[string]any{"id": id, "object": "email_address", "email_address": mail, "verification": nil, "created_at": at, "updated_at": at}
	if verified {
		a["verification"] = map[string]any{"status": "verified", "strategy": "email_code"}
	}
	return a
}
