package mapping

import (
	"slices"
	"strings"
)

// names has, for each source, what apps and Clerk's SDKs call it besides its own name, see Plain.
func names() map[string]string {
	return map[string]string{
		"id":         "clerkid clerkuserid userid authid authuserid useruid uid sub",
		"first_name": "fname givenname namefirst forename",
		"last_name":  "lname familyname surname namelast",
		"full_name":  "name displayname namefull realname",
		"username":   "handle userhandle uname nickname login",
		"primary_email": "email emailaddress emailaddresses emailid mail useremail " +
			"primaryemailaddress primaryemailaddressid",
		"email_verified": "isemailverified emailverification",
		"primary_phone": "phone phonenumber phonenumbers mobile mobilenumber mobilephone tel " +
			"primaryphonenumber primaryphonenumberid",
		"image_url": "image img imgurl imagesrc photo photourl picture pictureurl avatar avatarurl avatarimage pfp " +
			"profileurl profilepicture profilepictureurl profilepic profilepicurl profileimage profileimageurl " +
			"profileimg profilephoto profilephotourl profileavatar " +
			"userimage userimageurl userphoto userpicture useravatar clerkimage clerkimageurl",
		"created_at": "created createdon createddate datecreated creationdate signedupat signupdate " +
			"joined joinedat joindate joineddate datejoined registeredat membersince",
		"updated_at": "updated updatedon updateddate dateupdated modifiedat lastmodified lastupdated " +
			"lastupdatedat",
		"last_sign_in_at":    "lastsignin lastsignedin lastsignedinat lastlogin lastloginat lastactiveat",
		"locale":             "language lang",
		"two_factor_enabled": "mfa 2fa twofactor mfaenabled",
		Now:                  "date time timestamp currenttime syncedat",
		Public:               "metadata roles plan",
		Public + ".role":     "role userrole",
	}
}

// Named returns the source that a name probably means, or "".
func Named(name string) string {
	name = Plain(name)
	for source, others := range names() {
		if name == Plain(source) || slices.Contains(strings.Fields(others), name) {
			return source
		}
	}
	return ""
}

// Plain removes what differs between image_url, imageUrl and Image-URL.
func Plain(name string) string {
	return strings.NewReplacer("_", "", "-", "", " ", "", "\t", "").Replace(strings.ToLower(name))
}
