package adopt_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"clerksync/internal/testenv"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// person is a user at Clerk.
type person struct {
	ID, First, Last, Email, Phone, Image, Username, Role string
	Created                                              int64
}

func (p person) name() string { return strings.TrimSpace(p.First + " " + p.Last) }

// people returns 24 users: two are phone-only, one of these without a name, and two have no last name.
func people(usernames, roles bool) []person {
	firsts := []string{"Ada", "Grace", "Alan", "Zoë", "李", "Edsger", "Barbara", "Donald"}
	lasts := []string{"Lovelace", "Hopper", "Turing", "O'Neil", "小龙", "Dijkstra"}
	all := make([]person, 24)
	for i := range all {
		p := &all[i]
		p.Created = 1767603600000 + int64(i)*86_400_000
		p.ID = testenv.UserID(time.UnixMilli(p.Created), int64(i+1))
		p.First, p.Last = firsts[i%8], lasts[i%6]
		p.Email = fmt.Sprintf("person%d@mail.example", i)
		p.Image = picture(fmt.Sprint("a", i))
		if usernames {
			p.Username = fmt.Sprintf("nick_%d", i)
		}
		if roles {
			p.Role = []string{"student", "teacher", "student"}[i%3]
		}
	}
	all[4].Last, all[11].Last = "", ""
	all[7].Email, all[7].Phone = "", "+15555550107"
	all[15].Email, all[15].Phone, all[15].First, all[15].Last = "", "+15555550115", "", ""
	return all
}

// picture returns the address of a picture at Clerk.
func picture(of string) string {
	return "https://img.clerk.com/" + base64.RawURLEncoding.EncodeToString([]byte(`{"type":"proxy","src":"`+of+`"}`))
}

// user returns the person as Clerk's API has it.
func (p person) user(t testing.TB) testenv.ClerkUser {
	t.Helper()
	u := testenv.ClerkUser{
		ID: p.ID, Username: p.Username, FirstName: p.First, LastName: p.Last, Email: p.Email,
		Created: p.Created, Updated: p.Created + 1000,
	}
	var m map[string]any
	if err := json.Unmarshal(u.JSON(), &m); err != nil {
		t.Fatal(err)
	}
	m["image_url"] = p.Image
	if p.Phone != "" {
		m["phone_numbers"] = []any{map[string]any{"id": "idn_p", "phone_number": p.Phone}}
		m["primary_phone_number_id"] = "idn_p"
	}
	if p.Role != "" {
		m["public_metadata"] = map[string]any{"role": p.Role}
	}
	raw, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	u.Raw = raw
	return u
}

// none is a value that is left out.
type none struct{}

// or returns s, or otherwise what an app writes instead of an empty text.
func or(s string, otherwise any) any {
	if s == "" {
		return otherwise
	}
	return s
}

// doc returns a document of names and values; an ObjectID as _id, unless there is one, is the i-th.
func doc(i int, pairs ...any) bson.D {
	d := bson.D{}
	if pairs[0] != "_id" {
		d = append(d, bson.E{Key: "_id", Value: objectID(i)})
	}
	for n := 0; n < len(pairs); n += 2 {
		if _, out := pairs[n+1].(none); !out {
			d = append(d, bson.E{Key: pairs[n].(string), Value: pairs[n+1]})
		}
	}
	return d
}

func objectID(i int) bson.ObjectID {
	id, _ := bson.ObjectIDFromHex(fmt.Sprintf("65a0000000000000000000%02x", i))
	return id
}

// day returns a date that is not one of Clerk's.
func day(i int) bson.DateTime { return bson.DateTime(1767700000123 + int64(i)*3_600_000) }

// index returns an index on one field, as listIndexes shows it.
func index(field string, options ...string) bson.D {
	d := bson.D{{Key: "key", Value: bson.D{{Key: field, Value: int32(1)}}}, {Key: "name", Value: field + "_1"}}
	for _, o := range options {
		d = append(d, bson.E{Key: o, Value: true})
	}
	return d
}

type rowFunc func(p person, i int) bson.D

// shape is an app's database, and what adopt is to make of it.
type shape struct {
	usernames, roles bool // what the users have at Clerk
	name             string
	row              rowFunc
	others           map[string]rowFunc
	indexes          []bson.D
	create           bson.D // options of the collection
	named            bool   // its name is said

	want      string   // the map without comments
	off       []string // paths whose lines are switched off
	says      []string // parts of clashes, questions and reasons
	question  string   // part of the question, if there is no map
	unkeyed   string   // likewise without a secret key, if that is another map
	unkeyedQ  string   // part of the question without a secret key
	changes   int      // rows that the backfill would change
	fails     int      // users whom a unique index refuses in the backfill, as a clash says
	leftAlone []string // fields that stay the app's
}

// shapes are thirty collections as apps with Clerk and mongoose have them, in the proportions of the counts in issue
// 15.
func shapes() map[string]shape {
	return map[string]shape{
		"the credits tutorial": {
			row: func(p person, i int) bson.D {
				if i == 15 {
					return nil // the index has refused the second user without an address
				}
				return doc(i, "clerkId", p.ID, "email", or(p.Email, none{}), "photo", p.Image, "firstName",
					or(p.First, ""),
					"lastName", or(p.Last, ""), "creditBalance", int32(5+i%4), "__v", int32(0))
			},
			indexes: []bson.D{index("clerkId", "unique"), index("email", "unique")},
			want: `key: clerkId
fields:
  email: primary_email
  photo: image_url
  firstName: {from: first_name, absent: ""}
  lastName: {from: last_name, absent: ""}
  __v: {value: 0, when: create}`,
			leftAlone: []string{"creditBalance"},
			fails:     1,
			says: []string{
				"index email_1 is unique: if Clerk gives an address to a new user",
				"the unique index email_1 on users refuses a second user without email: make it partial in mongosh, " +
					`db.getCollection("users").dropIndex("email_1"); ` +
					`db.getCollection("users").createIndex({email: 1}, {name: "email_1", unique: true, ` +
					`partialFilterExpression: {email: {$gt: ""}}})`,
				"1 of 23 sampled users have no e-mail address",
			},
		},
		"the same with other capitals and user names": {
			usernames: true,
			row: func(p person, i int) bson.D {
				return doc(i, "clerkID", p.ID, "email", or(p.Email, none{}), "username", p.Username, "photo", p.Image,
					"firstname", or(p.First, none{}), "lastname", or(p.Last, none{}), "creditBalance",
					int32(i), "planId", int32(1))
			},
			indexes: []bson.D{index("clerkID", "unique"), index("email", "unique", "sparse"), index("username",
				"unique")},
			want: `key: clerkID
fields:
  email: primary_email
  username: {from: username, unique: true}
  photo: image_url
  firstname: first_name
  lastname: last_name
  planId: {value: 1, when: create}`,
			leftAlone: []string{"creditBalance"},
		},
		"names joined, mongoose's timestamps": {
			row: func(p person, i int) bson.D {
				return doc(i, "clerkUserId",
					p.ID, "name", or(p.name(), none{}), "email", or(p.Email, none{}), "imageUrl",
					p.Image, "createdAt", day(i), "updatedAt", day(i+5), "__v", int32(i%2))
			},
			indexes: []bson.D{index("clerkUserId", "unique")},
			want: `key: clerkUserId
fields:
  name: full_name
  email: primary_email
  imageUrl: image_url
  createdAt: {from: now, when: create}
  updatedAt: {from: now}
  __v: {value: 0, when: create}`,
		},
		"the shop with Clerk's id as _id": {
			row: func(p person, i int) bson.D {
				return doc(i, "_id", p.ID, "name", or(p.name(), ""), "email", or(p.Email, ""), "imageUrl", p.Image,
					"cartItems", bson.D{{Key: "p" + fmt.Sprint(i), Value: int32(2)}}, "__v", int32(0))
			},
			want: `key: _id
fields:
  name: {from: full_name, absent: ""}
  email: {from: primary_email, absent: ""}
  imageUrl: image_url
  __v: {value: 0, when: create}`,
			leftAlone: []string{"cartItems"},
		},
		"the courses with Clerk's id as _id": {
			row: func(p person, i int) bson.D {
				return doc(i, "_id", p.ID, "name", or(p.name(), none{}), "email", or(p.Email, none{}), "imageUrl",
					p.Image,
					"enrolledCourses", bson.A{objectID(i)}, "createdAt", day(i), "updatedAt", day(i))
			},
			want: `key: _id
fields:
  name: full_name
  email: primary_email
  imageUrl: image_url
  createdAt: {from: now, when: create}
  updatedAt: {from: now}`,
			leftAlone: []string{"enrolledCourses"},
		},
		"the threads tutorial, where users write name and picture themselves": {
			usernames: true,
			row: func(p person, i int) bson.D {
				return doc(i, "id", p.ID, "username", p.Username, "name", fmt.Sprint("The real ", i), "image",
					fmt.Sprintf("https://utfs.io/f/%d.png", i), "bio", fmt.Sprint("I am ", i), "threads", bson.A{},
					"onboarded", true, "communities", bson.A{}, "__v", int32(0))
			},
			indexes: []bson.D{index("id", "unique"), index("username", "unique")},
			want: `key: id
fields:
  username: {from: username, unique: true}
  __v: {value: 0, when: create}`,
			off:       []string{"name", "image"},
			leftAlone: []string{"name", "image", "bio", "threads", "onboarded", "communities"},
		},
		"the shape of clerksync itself, never synced": {
			usernames: true,
			row: func(p person, i int) bson.D {
				return doc(i, "_id", p.ID, "email", or(p.Email, none{}), "full_name", p.name(), "profile_picture",
					p.Image,
					"username", p.Username)
			},
			indexes: []bson.D{index("username", "unique", "sparse")},
			want: `key: _id
fields:
  email: primary_email
  full_name: {from: full_name, absent: ""}
  profile_picture: image_url
  username: {from: username, unique: true}`,
		},
		"the shape of clerksync itself, synced": {
			row: func(p person, i int) bson.D {
				return doc(i, "_id", p.ID, "email", or(p.Email, none{}), "full_name", p.name(), "profile_picture",
					p.Image,
					"username", fmt.Sprint("person", i), "clerk", bson.D{
						{Key: "version", Value: "1767603600000.1767603600000"},
						{Key: "created_at", Value: bson.DateTime(p.Created)},
						{Key: "synced_at", Value: day(i)},
						{Key: "banned", Value: false},
						{Key: "locked", Value: false},
						{Key: "deprovisioned", Value: false},
						{Key: "email_verified", Value: true},
					})
			},
			indexes: []bson.D{index("username", "unique", "sparse")},
			want: `key: _id
fields:
  email: primary_email
  full_name: {from: full_name, absent: ""}
  profile_picture: image_url
  username: {from: username, unique: true}`,
		},
		"fullName and profilePicture, rows that missed a webhook": {
			row: func(p person, i int) bson.D {
				name, image, email := p.name(), p.Image, p.Email
				switch i {
				case 3, 9:
					image = picture("old")
				case 5:
					name = "Before the wedding"
				case 12:
					email = "old@mail.example"
				}
				return doc(i, "clerkId", p.ID, "fullName", or(name, nil), "email", or(email, nil), "profilePicture",
					image,
					"bio", "", "createdAt", day(i), "updatedAt", day(i))
			},
			indexes: []bson.D{index("clerkId", "unique")},
			want: `key: clerkId
fields:
  fullName: {from: full_name, absent: null}
  email: {from: primary_email, absent: null}
  profilePicture: image_url
  createdAt: {from: now, when: create}
  updatedAt: {from: now}`,
			changes:   4,
			leftAlone: []string{"bio"},
			says:      []string{"the backfill changes 2"},
		},
		"underscores everywhere": {
			row: func(p person, i int) bson.D {
				return doc(i, "clerk_id", p.ID, "email_address", or(p.Email, none{}), "first_name", or(p.First, none{}),
					"last_name", or(p.Last, none{}), "avatar_url", p.Image, "created_at", day(i), "updated_at", day(i))
			},
			indexes: []bson.D{index("clerk_id", "unique"), index("email_address")},
			want: `key: clerk_id
fields:
  email_address: primary_email
  first_name: first_name
  last_name: last_name
  avatar_url: image_url
  created_at: {from: now, when: create}
  updated_at: {from: now}`,
		},
		"a role and flags of the app's": {
			row: func(p person, i int) bson.D {
				return doc(i, "userId", p.ID, "email", or(p.Email, none{}), "name", or(p.name(), none{}), "role",
					[]string{"user", "user", "user", "admin"}[i%4], "isActive", true, "credits", int32(i*3), ""+
						"createdAt", day(i),
					"updatedAt", day(i), "__v", int32(0))
			},
			indexes: []bson.D{index("userId", "unique"), index("email", "unique", "sparse")},
			want: `key: userId
fields:
  email: primary_email
  name: full_name
  isActive: {value: true, when: create}
  createdAt: {from: now, when: create}
  updatedAt: {from: now}
  __v: {value: 0, when: create}`,
			off:       []string{"role"},
			leftAlone: []string{"role", "credits"},
		},
		"nested in profile": {
			row: func(p person, i int) bson.D {
				return doc(i, "clerkId", p.ID, "email", or(p.Email, none{}), "profile", bson.D{
					{Key: "name", Value: p.name()}, {
						Key:   "avatarUrl",
						Value: p.Image,
					}, {Key: "bio", Value: fmt.Sprint("b", i)},
				}, "company", bson.D{{Key: "name", Value: fmt.Sprint("Company ", i)}})
			},
			indexes: []bson.D{index("clerkId", "unique")},
			want: `key: clerkId
fields:
  email: primary_email
  profile.name: {from: full_name, absent: ""}
  profile.avatarUrl: image_url`,
			leftAlone: []string{"company"},
		},
		"phone numbers": {
			row: func(p person, i int) bson.D {
				return doc(i, "clerkId", p.ID, "phoneNumber", or(p.Phone, ""), "name", or(p.name(), ""), "email",
					or(p.Email, ""), "address",
					bson.D{{Key: "street", Value: fmt.Sprint("Street ", i)}, {Key: "name", Value: "Home"}})
			},
			indexes: []bson.D{index("clerkId", "unique")},
			want: `key: clerkId
fields:
  phoneNumber: {from: primary_phone, absent: ""}
  name: {from: full_name, absent: ""}
  email: {from: primary_email, absent: ""}`,
			unkeyed: `key: clerkId
fields:
  name: {from: full_name, absent: ""}
  email: {from: primary_email, absent: ""}`,
			leftAlone: []string{"address"},
		},
		"user names that the app gives": {
			row: func(p person, i int) bson.D {
				return doc(i, "clerkId", p.ID, "username", fmt.Sprintf("person%d", i), "email", or(p.Email, none{}),
					"profileImage", p.Image, "followers", bson.A{}, "joinedAt", day(i))
			},
			indexes: []bson.D{index("clerkId", "unique"), index("username", "unique")},
			want: `key: clerkId
fields:
  username: {from: username, unique: true}
  email: primary_email
  profileImage: image_url
  joinedAt: {from: now, when: create}`,
			leftAlone: []string{"followers"},
		},
		"the role is in the public metadata": {
			roles: true,
			row: func(p person, i int) bson.D {
				return doc(i, "clerkId", p.ID, "email", or(p.Email, none{}), "firstName",
					or(p.First, none{}), "lastName",
					or(p.Last, none{}), "role", p.Role, "createdAt", day(i), "updatedAt", day(i), "__v", int32(0))
			},
			indexes: []bson.D{index("clerkId", "unique")},
			want: `key: clerkId
fields:
  email: primary_email
  firstName: first_name
  lastName: last_name
  role: {from: public_metadata.role, absent: student}
  createdAt: {from: now, when: create}
  updatedAt: {from: now}
  __v: {value: 0, when: create}`,
			unkeyed: `key: clerkId
fields:
  email: primary_email
  firstName: first_name
  lastName: last_name
  createdAt: {from: now, when: create}
  updatedAt: {from: now}
  __v: {value: 0, when: create}`,
		},
		"plans and a unique index that is not sparse": {
			row: func(p person, i int) bson.D {
				return doc(i, "clerkUserId",
					p.ID, "email", or(p.Email, none{}), "plan", []string{"free", "free", "pro"}[i%3],
					"stripeCustomerId", fmt.Sprint("cus_", i), "usageCount", int32(i), "createdAt", day(i))
			},
			indexes: []bson.D{index("clerkUserId", "unique"), index("stripeCustomerId", "unique")},
			want: `key: clerkUserId
fields:
  email: primary_email
  createdAt: {from: now, when: create}`,
			off:       []string{"plan"},
			leftAlone: []string{"plan", "stripeCustomerId", "usageCount"},
			says: []string{
				"the unique index stripeCustomerId_1 on users refuses a second new user, because the map does not " +
					"write stripeCustomerId: make it partial",
			},
		},
		"a strict validator": {
			row: func(p person, i int) bson.D {
				return doc(i, "clerkId", p.ID, "name", or(p.name(), "Anonymous"), "email",
					or(p.Email, fmt.Sprint("none", i, "@mail.example")), "kind", "member", "score", int32(i))
			},
			indexes: []bson.D{index("clerkId", "unique")},
			create: bson.D{{Key: "validator", Value: bson.D{{Key: "$jsonSchema", Value: bson.D{
				{Key: "bsonType", Value: "object"},
				{Key: "required", Value: bson.A{"clerkId", "name", "email", "kind", "score"}},
				{Key: "additionalProperties", Value: false},
				{Key: "properties", Value: bson.D{
					{Key: "_id", Value: bson.D{}},
					{Key: "clerkId", Value: bson.D{{Key: "bsonType", Value: "string"}}},
					{Key: "name", Value: bson.D{{Key: "bsonType", Value: "string"}}},
					{Key: "email", Value: bson.D{{Key: "bsonType", Value: "string"}, {Key: "pattern", Value: "@"}}},
					{Key: "kind", Value: bson.D{{Key: "enum", Value: bson.A{"member", "guest"}}}},
					{Key: "score", Value: bson.D{{Key: "bsonType", Value: "int"}}},
				}},
			}}}}},
			want: `key: clerkId
fields:
  name: {from: full_name, absent: ""}
  email: primary_email
  kind: {value: member, when: create}`,
			says: []string{
				"additionalProperties: false), and not clerk: add it", "the validator requires score, which Clerk " +
					"does not have",
				"the validator requires email, and Clerk's users may have no primary_email", "limits the text of email",
			},
			changes:   2, // the placeholders
			leftAlone: []string{"score"},
		},
		"pictures and display names of the users' own": {
			row: func(p person, i int) bson.D {
				return doc(i, "clerkId", p.ID, "email", or(p.Email, none{}), "displayName",
					fmt.Sprint("Captain ", i), "avatar",
					fmt.Sprintf("https://res.cloudinary.com/app/%d.jpg", i), "coverImage",
					"https://app.example/cover.png", "location", fmt.Sprint("Town ", i))
			},
			indexes: []bson.D{index("clerkId", "unique")},
			want: `key: clerkId
fields:
  email: primary_email`,
			off:       []string{"displayName", "avatar"},
			leftAlone: []string{"displayName", "avatar", "coverImage", "location"},
		},
		"who invited whom": {
			row: func(p person, i int) bson.D {
				return doc(i, "invitedBy",
					people(false, false)[(i+1)%24].ID, "clerkId", p.ID, "email", or(p.Email, none{}),
					"image", p.Image)
			},
			indexes: []bson.D{index("clerkId", "unique")},
			want: `key: clerkId
fields:
  email: primary_email
  image: image_url`,
			leftAlone: []string{"invitedBy"},
		},
		"Clerk's id in _id and in clerkId": {
			row: func(p person, i int) bson.D {
				return doc(i, "_id", p.ID, "clerkId", p.ID, "email", or(p.Email, none{}), "firstName",
					or(p.First, none{}),
					"lastName", or(p.Last, none{}), "profileImageUrl",
					p.Image, "twilio", bson.D{{Key: "sid", Value: fmt.Sprint("AC", i)}})
			},
			indexes: []bson.D{index("clerkId", "unique")},
			want: `key: _id
fields:
  clerkId: id
  email: primary_email
  firstName: first_name
  lastName: last_name
  profileImageUrl: image_url`,
			leftAlone: []string{"twilio"},
		},
		"posts, likes and comments beside users": {
			name: "members",
			row: func(p person, i int) bson.D {
				return doc(i, "clerkId",
					p.ID, "name", or(p.name(), none{}), "email", or(p.Email, none{}), "avatar", p.Image)
			},
			others: map[string]rowFunc{
				"posts": func(_ person, i int) bson.D {
					return doc(i, "authorClerkId",
						people(false, false)[i%5].ID, "title", fmt.Sprint("Post ", i), "imageUrl",
						fmt.Sprintf("https://app.example/%d.png", i))
				},
				"comments": func(_ person, i int) bson.D {
					return doc(i, "userId", people(false, false)[i%7].ID, "name", fmt.Sprint("n", i%7), "text", "hm")
				},
				"likes": func(_ person, i int) bson.D { return doc(i, "userId", people(false, false)[i%2].ID) },
			},
			indexes: []bson.D{index("clerkId", "unique")},
			want: `key: clerkId
fields:
  name: full_name
  email: primary_email
  avatar: image_url`,
		},
		"roles and scores in collections of their own": {
			name: "customers",
			row: func(p person, i int) bson.D {
				return doc(i, "clerkUserId",
					p.ID, "fullName", or(p.name(), none{}), "email", or(p.Email, none{}), "points",
					int32(i))
			},
			others: map[string]rowFunc{
				"userroles": func(p person, i int) bson.D {
					return doc(i, "clerkUserId", p.ID, "role", []string{"author", "reviewer"}[i%2])
				},
				"bests": func(p person, i int) bson.D { return doc(i, "clerkUserId", p.ID, "cumulative", int32(i)) },
			},
			indexes: []bson.D{index("clerkUserId", "unique")},
			want: `key: clerkUserId
fields:
  fullName: full_name
  email: primary_email`,
			leftAlone: []string{"points"},
		},
		"rows from before Clerk": {
			row: func(p person, i int) bson.D {
				id := any(p.ID)
				if i%3 == 2 {
					id = none{}
				}
				return doc(i, "clerkId",
					id, "name", or(p.name(), none{}), "email", or(p.Email, none{}), "image", p.Image,
					"passwordHash", "$2b$10$abc")
			},
			indexes: []bson.D{index("clerkId", "unique", "sparse")},
			want: `key: clerkId
fields:
  name: full_name
  email: primary_email
  image: image_url`,
			leftAlone: []string{"passwordHash"},
		},
		"unusual names, known by their values": {
			row: func(p person, i int) bson.D {
				return doc(i, "authId", p.ID, "contact", or(p.Email, "no-email@mail.example"), "profile",
					p.Image, "who", or(p.name(), none{}), "notes", fmt.Sprint("note ", i))
			},
			want: `key: authId
fields:
  contact: {from: primary_email, absent: "no-email@mail.example"}
  profile: image_url
  who: full_name`,
			unkeyedQ:  "which fields of users hold what Clerk knows of a user?",
			leftAlone: []string{"notes"},
		},
		"the names of a careless template": {
			row: func(p person, i int) bson.D {
				last := p.Last
				if last == "" {
					last = "null"
				}
				name := any(p.First + " " + last)
				if p.First == "" {
					name = none{}
				}
				return doc(i, "clerkId", p.ID, "name", name, "emailAddress", or(p.Email, none{}), "userImage", p.Image)
			},
			indexes: []bson.D{index("clerkId", "unique")},
			want: `key: clerkId
fields:
  name: full_name
  emailAddress: primary_email
  userImage: image_url`,
			changes: 2,
		},
		"doubles of the same user": {
			row: func(p person, i int) bson.D {
				if i == 20 || i == 21 {
					p = people(false, false)[i-20]
				}
				return doc(i, "clerkId", p.ID, "name", or(p.name(), none{}), "email", or(p.Email, none{}), "imageUrl",
					p.Image)
			},
			want: `key: clerkId
fields:
  name: full_name
  email: primary_email
  imageUrl: image_url`,
			says: []string{"2 rows share an id of Clerk's with another row", objectID(20).Hex(), objectID(0).Hex()},
		},
		"an own clerk document, verified flags, sign-ins": {
			row: func(p person, i int) bson.D {
				return doc(i, "externalId",
					p.ID, "clerk", bson.D{{Key: "plan", Value: "x"}}, "email", or(p.Email, none{}),
					"emailVerified",
					p.Email != "", "isVerified", i%2 == 0, "lastLogin", day(i), "first_name", or(p.First, none{}),
					"last_name", or(p.Last, none{}), "registeredAt", bson.DateTime(p.Created))
			},
			want: `key: externalId
state: _clerk
fields:
  email: primary_email
  emailVerified: email_verified
  first_name: first_name
  last_name: last_name
  registeredAt: created_at`,
			unkeyed: `key: externalId
state: _clerk
fields:
  email: primary_email
  emailVerified: email_verified
  first_name: first_name
  last_name: last_name
  registeredAt: {from: now, when: create}`,
			off:       []string{"lastLogin"},
			leftAlone: []string{"isVerified", "lastLogin", "clerk"},
		},
		"Clerk's id inside a longer text": {
			row: func(p person, i int) bson.D {
				return doc(i, "authId", "clerk|"+p.ID, "email", or(p.Email, none{}), "name", p.name())
			},
			named:    true,
			question: "authId of users holds an id of Clerk's inside a longer text",
		},
		"Clerk's id inside a document": {
			row: func(p person, i int) bson.D {
				return doc(i, "auth", bson.D{{Key: "provider", Value: "clerk"}, {Key: "userId", Value: p.ID}}, "email",
					or(p.Email, none{}), "name", p.name())
			},
			question: "It is in auth.userId, inside auth",
		},
		"two collections of users": {
			row: func(p person, i int) bson.D { return doc(i, "clerkId", p.ID, "email", or(p.Email, none{})) },
			others: map[string]rowFunc{
				"profiles": func(p person, i int) bson.D {
					return doc(i, "clerkId", p.ID, "name", p.name(), "imageUrl", p.Image)
				},
			},
			question: "which collection has the users? Clerk's ids, one for each row, are in profiles, users",
		},
	}
}
