package adopt

import (
	"slices"
	"strings"
)

// personal returns the names that apps give to what Clerk knows of a user, by source, in small letters without
// separators.
func personal() map[string][]string {
	return map[string][]string{
		"primary_email": {
			"email", "emailaddress", "useremail", "mail", "emailid", "primaryemail", "primaryemailaddress",
		},
		"first_name": {"firstname", "fname", "givenname", "namefirst", "forename"},
		"last_name":  {"lastname", "lname", "familyname", "surname", "namelast"},
		"full_name":  {"name", "fullname", "displayname", "namefull", "realname"},
		"username":   {"username", "handle", "userhandle", "uname"},
		"image_url": {
			"image", "imageurl", "img", "imgurl", "photo", "photourl", "picture", "pictureurl", "avatar", "avatarurl",
			"avatarimage", "profilepicture", "profilepictureurl", "profilepic", "profilepicurl", "profileimage",
			"profileimageurl", "profileimg", "profilephoto", "profilephotourl", "profileavatar", "userimage",
			"userimageurl", "userphoto", "userpicture", "useravatar", "imagesrc", "profileurl", "pfp", "clerkimage",
			"clerkimageurl",
		},
		"primary_phone":  {"phone", "phonenumber", "mobile", "mobilenumber", "primaryphone", "mobilephone", "tel"},
		"email_verified": {"emailverified", "isemailverified"},
		"banned":         {"banned", "isbanned"},
		"locked":         {"locked", "islocked"},
		"last_sign_in_at": {
			"lastsigninat", "lastsignin", "lastlogin", "lastloginat", "lastsignedin", "lastsignedinat",
		},
		"public_metadata.role": {"role", "userrole"},
	}
}

// parents returns the names of documents in which a name is the user's own: profile.name is, company.name is not.
func parents() []string {
	return []string{
		"profile", "user", "userinfo", "userdata", "userprofile", "account", "personal", "personalinfo",
		"personaldetails", "basicinfo", "info", "details", "data", "identity", "person", "contact", "contactinfo",
		"clerk", "clerkuser", "clerkdata", "auth", "publicprofile", "name", "avatar", "image", "photo", "picture",
	}
}

// createdNames and updatedNames are what apps call the times of a row.
func createdNames() []string {
	return []string{
		"createdat", "created", "createdon", "datecreated", "creationdate", "createddate", "joinedat", "joindate",
		"joineddate", "datejoined", "joined", "registeredat", "signupdate", "membersince",
	}
}

func updatedNames() []string {
	return []string{
		"updatedat", "updated", "updatedon", "dateupdated", "updateddate", "modifiedat", "lastmodified", "lastupdated",
		"lastupdatedat",
	}
}

// plain returns a name in small letters without separators.
func plain(name string) string {
	return strings.ToLower(strings.NewReplacer("_", "", "-", "", " ", "").Replace(name))
}

// namedFor returns the source that a path is named after, or "". profile.avatar.url is a picture.
func namedFor(path string) string {
	segments := strings.Split(path, ".")
	last := plain(segments[len(segments)-1])
	candidates := []string{last}
	if n := len(segments); n > 1 {
		candidates = []string{plain(segments[n-2]) + last}
		if slices.Contains(parents(), plain(segments[n-2])) {
			candidates = append(candidates, last)
		}
		if last == "url" || last == "src" { // image: {url, publicId}
			candidates = append(candidates, plain(segments[n-2]))
		}
	}
	for _, c := range candidates {
		for source, names := range personal() {
			if slices.Contains(names, c) {
				return source
			}
		}
	}
	return ""
}

// isPersonal tells whether a field is named after what describes a person.
func (f *field) isPersonal() bool {
	switch namedFor(f.path) {
	case "primary_email", "first_name", "last_name", "full_name", "username", "image_url":
		return f.texts() > 0
	}
	return false
}

// isNamed tells whether the last part of a path is one of these names.
func isNamed(path string, names []string) bool {
	return slices.Contains(names, plain(path[strings.LastIndex(path, ".")+1:]))
}

// hasWord tells whether a path's last part has one of the words in it.
func hasWord(path string, words ...string) bool {
	last := plain(path[strings.LastIndex(path, ".")+1:])
	return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(last, w) })
}

// isReference tells whether a field seems to say who did something to the row, and not whose row it is.
func isReference(path string) bool {
	last := plain(path[strings.LastIndex(path, ".")+1:])
	return strings.HasSuffix(last, "by") || strings.HasSuffix(last, "byid") || hasWord(path, "byclerk", "byuser",
		"owner", "author", "host", "creator", "sender", "receiver", "recipient", "refer", "invite", "manager", "parent",
		"assign", "partner", "friend", "follow", "coach", "mentor", "sponsor")
}

// isSecret tells whether nothing of a field may be proposed or printed.
func isSecret(path string) bool {
	return hasWord(path, "password", "passwd", "token", "secret", "hash", "salt", "apikey")
}
