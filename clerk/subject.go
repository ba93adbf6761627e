package clerk

import (
	"bytes"
	"encoding/json"
	"strings"
)

// IsOf tells whether the data of an event is about a user: whether it is that user, or something that belongs to the
// user by a user_id anywhere in it, as a session, a membership or a payer does. An object of another user is not, even
// if it names the user in its metadata. Data that is no object, which no function can use, is about every user whose id
// stands in it. deletion tells whether it says that the user is deleted.
func IsOf(data json.RawMessage, userID string) (is, deletion bool) {
	var object map[string]any
	if json.Unmarshal(Unwrap(data).User, &object) != nil {
		return bytes.Contains(data, []byte(userID)), false
	}
	if id, _ := object["id"].(string); strings.HasPrefix(id, UserIDPrefix) {
		deleted, _ := object["deleted"].(bool)
		return id == userID, id == userID && deleted
	}
	return belongsTo(object, userID), false
}

// belongsTo tells whether there is a user_id with this value anywhere in v.
func belongsTo(v any, userID string) bool {
	switch v := v.(type) {
	case map[string]any:
		if v["user_id"] == userID {
			return true
		}
		for _, member := range v {
			if belongsTo(member, userID) {
				return true
			}
		}
	case []any:
		for _, element := range v {
			if belongsTo(element, userID) {
				return true
			}
		}
	}
	return false
}
