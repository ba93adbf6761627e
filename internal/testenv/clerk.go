package testenv

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.mongodb.org/mongo-driver/v2/bson"
)

// Webhook is one webhook of Clerk.
type Webhook struct {
	ID     string // svix-id
	Type   string
	Body   []byte
	Data   json.RawMessage // the data in the body, which is what Inngest's own integration sends
	TS     int64           // the time in the body, in milliseconds
	UserID string

	place int // in the order in which the webhooks of all histories happened
}

// History is the life of one user at Clerk, in the order in which it happened.
type History struct {
	UserID   string
	Webhooks []Webhook
	// Tie says that two changes differ only in the time in the body, which Inngest's integration does not keep. If they
	// come by the integration alone, their order is lost.
	Tie bool
	// Linked says that the app has made the user's document, so that it has nothing of what only a creation writes.
	Linked bool

	app      App
	want     bson.M   // the document in the end, see App; nil if the user is deleted
	names    []string // what a user name that we give may be made from
	username string   // Clerk's own user name in the end
	renamed  bool     // Clerk's own user name has changed, so the row's has too
}

// Histories returns the lives of n users at Clerk, for the app with the map that is used without a file.
func Histories(t testing.TB, rng *rand.Rand, n int) []History {
	t.Helper()
	return DefaultApp().Histories(t, rng, n)
}

// Histories returns the lives of n users at Clerk: created, 0 to 5 changes, some deleted. They are as awkward as real
// ones: phone-only, the primary address last, missing or dangling; names null, in any script and with HTML in them;
// changes that move no time of the user; times in seconds; users that are banned, locked or deprovisioned; and many
// that want the same user name. If the app's addresses are unique, they go from user to user, too.
func (a App) Histories(t testing.TB, rng *rand.Rand, n int) []History {
	t.Helper()
	var turns []int // whose turn it is: first to sign up, then to change
	for i := range n {
		for range 1 + rng.IntN(6) {
			turns = append(turns, i)
		}
	}
	rng.Shuffle(len(turns), func(i, j int) { turns[i], turns[j] = turns[j], turns[i] })
	c := &cast{app: a, rng: rng}
	byIndex := make([]*user, n)
	for turn, i := range turns {
		u := byIndex[i]
		switch {
		case u == nil:
			u = c.newUser(fmt.Sprintf("user_2e2e%05d%s", i, letters(rng, 18)))
			byIndex[i] = u
			u.post(t, "user.created")
		case u.deleted:
		case a.UniqueEmail && rng.IntN(3) == 0:
			u.meet(t, c.users[rng.IntN(len(c.users))])
		default:
			u.change()
			u.post(t, "user.updated")
		}
		if last := !slices.Contains(turns[turn+1:], i); last && !u.deleted && rng.IntN(4) == 0 {
			u.pass()
			u.delete(t)
		}
	}
	all := make([]History, n)
	for i, u := range byIndex {
		if u.h.username = u.username; !u.deleted {
			u.h.want = a.want(u)
		}
		all[i] = u.h
	}
	return all
}

// InOrder returns the webhooks of all histories in the order in which they happened.
func InOrder(histories []History) []Webhook {
	var all []Webhook
	for _, h := range histories {
		all = append(all, h.Webhooks...)
	}
	slices.SortFunc(all, func(a, b Webhook) int { return a.place - b.place })
	return all
}

// Check returns how the user's document differs from what it must be, or "". nil means that there is no document.
func (h History) Check(doc Doc) string {
	var got, want bson.M
	if doc != nil {
		got = flat(bson.D(doc))
	}
	if h.want != nil {
		want = expect(h.want, got, h.Linked)
	}
	if d := cmp.Diff(want, got); d != "" {
		return fmt.Sprintf("%s after %d webhooks (-want +got):\n%s", h.UserID, len(h.Webhooks), d)
	}
	if doc == nil || h.app.Names == "" {
		return ""
	}
	bases := h.names
	if h.username != "" {
		bases = []string{h.username}
	}
	name := doc.Text(h.app.Names)
	// A name that is taken gets a suffix made of the id.
	if !slices.ContainsFunc(bases, func(b string) bool { return name == b || strings.HasPrefix(name, b+"-") }) {
		return fmt.Sprintf("%s has the user name %q, want one made of %q", h.UserID, name, bases)
	}
	return ""
}

// CheckAll returns how the documents differ from what they must be, and which of them share a user name. doc returns
// the document of a user, or nil.
func CheckAll(histories []History, doc func(id string) Doc) []string {
	var wrong []string
	owner := map[string]string{}
	for _, h := range histories {
		d := doc(h.UserID)
		if diff := h.Check(d); diff != "" {
			wrong = append(wrong, diff)
		}
		if d == nil || h.app.Names == "" {
			continue
		}
		name := d.Text(h.app.Names)
		if other := owner[name]; other != "" || name == "" {
			wrong = append(wrong, fmt.Sprintf("%s has the user name %q, as %s has", h.UserID, name, other))
		}
		owner[name] = h.UserID
	}
	return wrong
}

// KeepsName tells whether the row must keep its user name once it has one. It need not if Clerk has a user name of its
// own, or if the user is deleted: a write that overlaps with the deletion may make a row again, and then removes it.
func (h History) KeepsName() bool {
	return h.app.Names != "" && h.username == "" && !h.renamed && h.want != nil
}

// cast are users of one app at Clerk.
type cast struct {
	app   App
	rng   *rand.Rand
	users []*user
	posts int // webhooks so far
}

// user is a user at Clerk.
type user struct {
	*cast
	h History

	seconds                       bool  // its times are in seconds, as in Clerk's examples
	now, created, updated         int64 // in milliseconds
	username, first, last, image  string
	emails                        []email
	primary                       string // the id of an address, perhaps of one that is removed
	phone                         string // in E.164
	plan, role                    string // in the public metadata
	banned, locked, deprovisioned bool
	deleted                       bool
}

type email struct {
	id, address string
	verified    bool
	at          int64
	kept        bool // no other user will have it
}

func (c *cast) newUser(id string) *user {
	rng := c.rng
	u := &user{cast: c, seconds: rng.IntN(8) == 0, image: "https://img.example/" + id}
	c.users = append(c.users, u)
	u.h.app = c.app
	u.now = (1767603600 + rng.Int64N(1e6)) * 1000
	u.h.UserID = id
	u.created, u.updated = u.now, u.now
	u.name()
	switch rng.IntN(6) {
	case 0:
		u.phone = fmt.Sprintf("+1555555%04d", rng.IntN(10_000))
	case 1: // none is primary
		u.add(false)
		u.add(true)
	case 2: // the primary one is removed
		u.add(rng.IntN(2) == 0)
		u.primary = "idn_gone"
	case 3: // a new one stands first
		u.add(true)
		u.primary = u.emails[0].id
		u.add(false)
	default:
		u.add(rng.IntN(8) > 0)
		u.primary = u.emails[0].id
	}
	if rng.IntN(4) == 0 {
		u.rename()
		u.h.renamed = false // it has always been so
	}
	u.role = u.pick("", "admin")
	return u
}

func (u *user) pick(of ...string) string { return of[u.rng.IntN(len(of))] }

// pass lets time go by, enough to show in Clerk's times.
func (u *user) pass() {
	u.now += 1000 + u.rng.Int64N(100_000)
	if !u.seconds && u.rng.IntN(2) == 0 {
		u.now += u.rng.Int64N(900) - 999
	}
}

// change is something that a user, an administrator or a directory does.
func (u *user) change() {
	u.pass()
	moved := true
	switch u.rng.IntN(12) {
	case 0, 1:
		u.name()
	case 2: // this changes no time of the user except the address's own
		u.add(u.rng.IntN(2) == 0)
		moved = false
	case 3: // removes one
		if len(u.emails) > 0 {
			i := u.rng.IntN(len(u.emails))
			u.emails = slices.Delete(slices.Clone(u.emails), i, i+1)
		}
	case 4:
		if len(u.emails) > 0 {
			u.primary = u.emails[u.rng.IntN(len(u.emails))].id
		}
	case 5:
		u.image = "https://img.example/" + letters(u.rng, 6)
	case 6:
		u.banned = !u.banned
	case 7:
		u.locked = !u.locked
	case 8:
		u.deprovisioned = !u.deprovisioned
	case 9:
		u.rename()
	case 10: // this changes no time at all
		u.banned, moved = !u.banned, false
		u.h.Tie = true
	case 11: // signs in, or buys something
		u.plan = u.pick("", "pro", "team")
	}
	if moved {
		u.updated = u.now
	}
}

func (u *user) name() {
	u.first = u.pick("", "Ada", "Zoë", "<b>Bob</b>", " 李 ", "Robert'); DROP TABLE users;--", "🦊", "$set", "null")
	u.last = u.pick("", "Lovelace", "O'Neil", "null", "&amp;", "ﷺ", "a.b")
}

// rename gives the user a user name at Clerk, or takes it away. Such names are unique at Clerk, but may collide with
// names that we have given.
func (u *user) rename() {
	u.h.renamed = true
	if u.username != "" && u.rng.IntN(3) == 0 {
		u.h.names = append(u.h.names, u.username) // the row keeps it when Clerk removes it
		u.username = ""
		return
	}
	u.username = "u" + strings.ToLower(letters(u.rng, 8))
}

func (u *user) add(verified bool) {
	e := email{id: "idn_" + letters(u.rng, 8), verified: verified, at: u.now}
	e.address = u.pick("ada", "grace", "alan") + "@" + strings.ToLower(letters(u.rng, 8)) + ".example"
	u.emails = append([]email{e}, u.emails...) // Clerk lists a new one first
}

// address returns the address that counts.
func (u *user) address() (email, bool) {
	for _, which := range []func(email) bool{
		func(e email) bool { return e.id == u.primary },
		func(e email) bool { return e.verified },
		func(email) bool { return true },
	} {
		if i := slices.IndexFunc(u.emails, which); i >= 0 {
			return u.emails[i], true
		}
	}
	return email{}, false
}

// meet has an address go from another user to this one, or has the two swap theirs. Whoever loses an address has a
// webhook of a state without it, in which there is no address that another user has or will have: so there is always an
// order of writes in which no two documents have one address.
func (u *user) meet(t testing.TB, other *user) {
	t.Helper()
	theirs, ok := other.address()
	if !ok || theirs.kept || other.deleted || other == u {
		return
	}
	mine, swap := u.address()
	swap = swap && !mine.kept && u.rng.IntN(2) == 0
	u.lose(t)
	other.now = max(other.now, u.now)
	if !swap && u.rng.IntN(3) == 0 {
		other.pass()
		other.delete(t)
	} else {
		other.lose(t)
	}
	u.gain(t, theirs, other.now)
	if swap {
		other.gain(t, mine, u.now)
	}
}

// lose removes all addresses of the user, or puts one there that nobody else will ever have.
func (u *user) lose(t testing.TB) {
	t.Helper()
	if len(u.emails) == 0 {
		return
	}
	u.pass()
	if u.emails = nil; u.rng.IntN(2) == 0 {
		u.add(true)
		u.emails[0].kept = true
	}
	u.updated = u.now
	u.post(t, "user.updated")
}

// gain gives the user an address that another one had until a time.
func (u *user) gain(t testing.TB, e email, until int64) {
	t.Helper()
	u.now = max(u.now, until)
	u.pass()
	e.id, e.at, e.verified = "idn_"+letters(u.rng, 8), u.now, true
	u.emails, u.primary, u.updated = append([]email{e}, u.emails...), e.id, u.now
	u.post(t, "user.updated")
}

// email returns the address that counts, or "".
func (u *user) email() string {
	e, _ := u.address()
	return e.address
}

func (u *user) fullName() string {
	return strings.TrimSpace(strings.TrimSpace(u.first) + " " + strings.TrimSpace(u.last))
}

// time returns a time as this user's instance writes it.
func (u *user) time(ms int64) int64 {
	if u.seconds {
		return ms / 1000
	}
	return ms
}

// orNull is how Clerk writes a text that is not there.
func orNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// post adds the webhook of the user as it is now.
func (u *user) post(t testing.TB, typ string) {
	t.Helper()
	if e, ok := u.address(); ok {
		local, _, _ := strings.Cut(e.address, "@")
		u.h.names = append(u.h.names, local)
	} else {
		u.h.names = append(u.h.names, "user")
	}
	if u.username != "" {
		u.h.names = append(u.h.names, u.username)
	}
	var emails, phones []any
	for _, e := range u.emails {
		a := map[string]any{
			"id": e.id, "object": "email_address", "email_address": e.address, "verification": nil,
			"created_at": u.time(e.at), "updated_at": u.time(e.at),
		}
		if e.verified {
			a["verification"] = map[string]any{"status": "verified", "strategy": "email_code"}
		}
		emails = append(emails, a)
	}
	metadata := map[string]any{}
	for key, v := range map[string]string{"plan": u.plan, "role": u.role} {
		if v != "" {
			metadata[key] = v
		}
	}
	if u.phone != "" {
		phones = []any{map[string]any{
			"id": "idn_p", "phone_number": u.phone,
			"backup_codes": []any{"backup-" + letters(u.rng, 8)},
			"created_at":   u.time(u.created), "updated_at": u.time(u.created),
		}}
	}
	u.message(t, typ, map[string]any{
		"id": u.h.UserID, "object": "user", "created_at": u.time(u.created), "updated_at": u.time(u.updated),
		"image_url": u.image,
		"username":  orNull(u.username), "first_name": orNull(u.first), "last_name": orNull(u.last), "external_id": nil,
		"primary_email_address_id": orNull(u.primary), "email_addresses": emails, "phone_numbers": phones,
		"external_accounts": []any{},
		"public_metadata":   metadata, "private_metadata": map[string]any{"plan": "secret"},
		"unsafe_metadata": map[string]any{},
		"banned":          u.banned, "locked": u.locked, "deprovisioned": u.deprovisioned,
	})
}

func (u *user) delete(t testing.TB) {
	t.Helper()
	u.message(t, "user.deleted", map[string]any{"id": u.h.UserID, "object": "user", "deleted": true})
	u.deleted = true
}

func (u *user) message(t testing.TB, typ string, data any) {
	t.Helper()
	raw, err := json.Marshal(data)
	if err != nil {
		t.Fatal(err)
	}
	body, err := json.Marshal(map[string]any{
		"type": typ, "object": "event", "timestamp": u.time(u.now), "instance_id": "ins_2e2e",
		"data":             json.RawMessage(raw),
		"event_attributes": map[string]any{"http_request": map[string]any{"client_ip": "", "user_agent": ""}},
	})
	if err != nil {
		t.Fatal(err)
	}
	ts := u.time(u.now)
	if u.seconds {
		ts *= 1000
	}
	u.h.Webhooks = append(u.h.Webhooks, Webhook{
		ID: fmt.Sprintf("msg_%s_%d", u.h.UserID, len(u.h.Webhooks)), Type: typ, Body: body, Data: raw, TS: ts,
		UserID: u.h.UserID, place: u.posts,
	})
	u.posts++
}

func letters(rng *rand.Rand, n int) string {
	var b strings.Builder
	for range n {
		b.WriteByte("ABCDEFGHJKLMNPQRSTUVWXYZ"[rng.IntN(24)])
	}
	return b.String()
}
