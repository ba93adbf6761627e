package database

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"clerksync/reach"

	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver/description"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver/topology"
)

// MayPass tells whether an error of the database may pass by itself. Errors of a server that is away, starts, recovers,
// shuts down or is not the primary may pass. Errors about a login or a setting, and errors that are not from the
// database, do not. A write that no majority has acknowledged may be repeated.
func MayPass(err error) bool {
	if unacknowledged(err) {
		return true
	}
	var ce mongo.CommandError
	if !errors.As(err, &ce) || ce.Code == 0 {
		return mongo.IsTimeout(err) || mongo.IsNetworkError(err)
	}
	// src/mongo/base/error_codes.yml of MongoDB. Codes that are not listed here are worth another try.
	switch ce.Code {
	case 11, 13, 18, 334, // UserNotFound, Unauthorized, AuthenticationFailed, MechanismUnavailable
		8000,             // AtlasError: a wrong password, or an operation that the cluster does not allow
		2, 9, 14, 20, 59, // BadValue, FailedToParse, TypeMismatch, IllegalOperation, CommandNotFound
		67, 72, 73, // CannotCreateIndex, InvalidOptions, InvalidNamespace
		85, 86, // IndexOptionsConflict, IndexKeySpecsConflict
		115, 322, 323, 11000: // CommandNotSupported, APIVersionError, APIStrictError, DuplicateKey
		return false
	}
	return true
}

// RefusesLogin tells whether the server does not accept the user name or the password.
func RefusesLogin(err error) bool {
	var ce mongo.CommandError
	codes := []int32{11, 18, 8000} // UserNotFound, AuthenticationFailed, AtlasError
	return errors.As(err, &ce) && slices.Contains(codes, ce.Code)
}

// Unreached says why no server that may be written to was found, in words that quote nothing of the connection string.
// It is "" if that is not what failed.
func Unreached(err error) string {
	// The error itself only says that the time was over. What became of each connection is in the driver's picture of
	// the servers, whose package the driver calls experimental: there is no other way to it.
	failed, ok := errors.AsType[topology.ServerSelectionError](err)
	if !ok {
		return ""
	}
	why := whyUnreached(failed.Desc.Servers)
	if inAtlas(failed.Desc.Servers) && shutsOut(why) {
		return "MongoDB Atlas lets no connection from this machine through: add its address to the IP access list of " +
			"the project (Atlas, Network Access); if it is there, see whether the cluster is paused, and the firewall"
	}
	return why
}

func inAtlas(servers []description.Server) bool {
	return slices.ContainsFunc(servers, func(s description.Server) bool {
		host, _, _ := strings.Cut(string(s.Addr), ":")
		return strings.HasSuffix(host, ".mongodb.net")
	})
}

// shutsOut tells whether a cluster in Atlas behaves so, in reach's words, to an address that is not on its list: a
// dedicated one does not answer, and a shared one breaks off the TLS handshake, with an alert or without.
func shutsOut(why string) bool {
	return why == reach.Why(context.DeadlineExceeded) || why == reach.Why(io.EOF) ||
		strings.HasPrefix(why, "the server refuses the TLS connection")
}

func whyUnreached(servers []description.Server) string {
	primaryless := false
	for _, s := range servers {
		why := reach.Why(s.LastError)
		switch {
		case why != "":
			return why
		case s.LastError == nil:
			primaryless = primaryless || s.Kind != 0 // 0 is unknown: it has not answered yet
		case strings.Contains(s.LastError.Error(), "length of read message"),
			strings.Contains(s.LastError.Error(), "malformed message length"):
			return "what answers there does not speak MongoDB's protocol: check the port"
		}
	}
	switch {
	case len(servers) == 0:
		return "the servers are of another replica set than the connection string says: check replicaSet in it"
	case primaryless:
		return "servers answer, and none of them is the primary: look at the replica set (rs.status())"
	}
	return reach.Why(context.DeadlineExceeded)
}

// unacknowledged tells whether a write was done, or found that there was nothing to do, but no majority has
// acknowledged that: it may be rolled back.
func unacknowledged(err error) bool {
	var one mongo.WriteException
	var many mongo.BulkWriteException
	return errors.As(err, new(*mongo.WriteConcernError)) ||
		errors.As(err, &one) && one.WriteConcernError != nil ||
		errors.As(err, &many) && many.WriteConcernError != nil
}

// WorthRepeating tells whether a write that failed may succeed when it is repeated. Besides the errors that MayPass
// knows these are a cancelled call, a write that no majority has acknowledged, and the errors of single rows with which
// a server says that it steps down, shuts down or was interrupted.
func WorthRepeating(err error) bool {
	var se mongo.ServerError
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, mongo.ErrClientDisconnected), errors.Is(err, errPushRaced),
		unacknowledged(err):
		return true
	case errors.As(err, new(mongo.CommandError)) || !errors.As(err, &se):
		return MayPass(err)
	}
	// Of src/mongo/base/error_codes.yml those that the specification of retryable writes names, and LockTimeout,
	// MaxTimeMSExpired, WriteConcernFailed and WriteConflict.
	codes := []int{6, 7, 24, 50, 64, 89, 91, 112, 134, 189, 262, 9001, 10107, 11600, 11602, 13435, 13436}
	return slices.ContainsFunc(se.ErrorCodes(), func(code int) bool { return slices.Contains(codes, code) })
}

// RefusesRow tells whether a write failed because of what is in its one row, such as a key in the metadata that this
// database does not store, or because of a validator of the app's. It says nothing about other rows, and until the
// row's values or the validator change, a retry cannot help.
func RefusesRow(err error) bool {
	var se mongo.ServerError
	if errors.As(err, new(mongo.CommandError)) || !errors.As(err, &se) {
		return false
	}
	// src/mongo/base/error_codes.yml of MongoDB: BadValue, InvalidBSON, DollarPrefixedFieldName, InvalidDBRef,
	// EmptyFieldName, DottedFieldName, DocumentValidationFailure, and three codes of documents that are too large.
	codes := []int{2, 22, 52, 54, 56, 57, 121, 10334, 17419, 17420}
	return slices.ContainsFunc(se.ErrorCodes(), func(code int) bool { return slices.Contains(codes, code) })
}

// Redact hides the texts of the driver and the server, because they quote values of rows ("dup key: { username: …").
// The text of the result is safe in a log and in Inngest's history. errors.Is and errors.As still find err. Redact(nil)
// is nil.
func Redact(err error) error {
	if err == nil {
		return nil
	}
	return redacted{err}
}

type redacted struct{ err error }

func (r redacted) Unwrap() error { return r.err }

func (r redacted) Error() string {
	var se mongo.ServerError
	var ce mongo.CommandError
	switch {
	case IsDuplicate(r.err):
		return "duplicate key"
	case errors.As(r.err, &ce) && ce.Code != 0:
		return fmt.Sprintf("the database refused: code %d %s", ce.Code, ce.Name)
	case errors.Is(r.err, context.Canceled):
		return "cancelled"
	case Unreached(r.err) != "":
		return "the database cannot be reached: " + Unreached(r.err)
	case mongo.IsTimeout(r.err), errors.Is(r.err, context.DeadlineExceeded):
		return "the database did not answer in time"
	case mongo.IsNetworkError(r.err), errors.Is(r.err, mongo.ErrClientDisconnected):
		return "the connection to the database broke"
	case errors.As(r.err, &se):
		return fmt.Sprintf("the database refused: codes %v", se.ErrorCodes())
	}
	return fmt.Sprintf("database error of type %T", r.err)
}

// IsDuplicate tells whether a write failed because the _id, or the value in a unique index, exists already, and a
// majority has that. MongoDB waits for the majority here too, but its answer then has both errors: what is there may
// still be rolled back, so it is no duplicate for us. For an update, FerretDB v1 reports that as an internal error.
func IsDuplicate(err error) bool {
	if unacknowledged(err) {
		return false
	}
	if mongo.IsDuplicateKeyError(err) {
		return true
	}
	var se mongo.ServerError
	return errors.As(err, &se) && se.HasErrorCodeWithMessage(1, "UNIQUE constraint failed")
}
