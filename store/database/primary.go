package database

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// This file has what 'clerksync dev' does with a mongod that it has started: a server of its own, without a password.

// primaryLimit bounds how long a server may take until it is the primary. It usually takes a second or two.
const primaryLimit = 30 * time.Second

// errOther says that what answers is a server of somebody else's, which must stay as it is.
var errOther = errors.New("another server has taken its port")

// MakePrimary makes the server at an address, HOST:PORT, the primary of a replica set that has no other member, and
// returns when the server takes writes. set is the name of the replica set that the server was started with, which no
// other server has. If the set knows the server by another address, from an earlier start, it gets this one.
func MakePrimary(ctx context.Context, address, set string) error {
	ctx, cancel := context.WithTimeout(ctx, primaryLimit)
	defer cancel()
	admin, closing, err := direct(address)
	if err != nil {
		return err
	}
	defer closing()
	for {
		var hello struct {
			IsPrimary bool   `bson:"isWritablePrimary"`
			Set       string `bson:"setName"`
		}
		err := admin.RunCommand(ctx, bson.D{{Key: "hello", Value: 1}}).Decode(&hello)
		if err == nil && hello.IsPrimary && hello.Set == set {
			return nil
		}
		if err == nil {
			err = configure(ctx, admin, address, set)
		}
		switch {
		case errors.Is(err, errOther):
			return err
		case err != nil && !MayPass(err):
			return fmt.Errorf("make it a replica set: %w", Redact(err))
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			late := fmt.Errorf("it did not become the primary of a replica set in %s", primaryLimit)
			if err != nil {
				late = fmt.Errorf("%w: %w", late, Redact(err))
			}
			return late
		}
	}
}

// configure tells the server, which is no primary, which members its replica set has: this server alone. An error with
// which MongoDB says that the server is about to become the primary may pass.
func configure(ctx context.Context, admin *mongo.Database, address, set string) error {
	var answer struct {
		Config bson.M `bson:"config"`
	}
	err := admin.RunCommand(ctx, bson.D{{Key: "replSetGetConfig", Value: 1}}).Decode(&answer)
	me := bson.D{{Key: "_id", Value: 0}, {Key: "host", Value: address}}
	switch name, _ := answer.Config["_id"].(string); {
	case err == nil && name != set:
		return errOther
	case hasCode(err, 94): // NotYetInitialized: it has no configuration, or has not read it yet
		wanted := bson.D{{Key: "_id", Value: set}, {Key: "members", Value: bson.A{me}}}
		return admin.RunCommand(ctx, bson.D{{Key: "replSetInitiate", Value: wanted}}).Err()
	case err != nil || onlyMember(answer.Config, address):
		return err
	}
	version, _ := answer.Config["version"].(int32)
	answer.Config["version"], answer.Config["members"] = version+1, bson.A{me}
	// By force, because a server that does not find itself in the configuration can never be the primary.
	command := bson.D{{Key: "replSetReconfig", Value: answer.Config}, {Key: "force", Value: true}}
	return admin.RunCommand(ctx, command).Err()
}

// onlyMember tells whether the server at an address is the only member in the configuration of a replica set.
func onlyMember(config bson.M, address string) bool {
	members, _ := config["members"].(bson.A)
	if len(members) != 1 {
		return false
	}
	member, _ := members[0].(bson.D)
	return slices.Contains(member, bson.E{Key: "host", Value: address})
}

// ShutDown asks the server at an address to end, and returns when it has heard that. On a signal, the primary of a
// replica set would first wait for 15 seconds for another member to take over.
func ShutDown(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, opTimeout/2)
	defer cancel()
	admin, closing, err := direct(address)
	if err != nil {
		return err
	}
	defer closing()
	command := bson.D{{Key: "shutdown", Value: 1}, {Key: "force", Value: true}, {Key: "timeoutSecs", Value: 1}}
	if err = admin.RunCommand(ctx, command).Err(); mongo.IsNetworkError(err) {
		return nil // it has ended before it answered
	}
	return Redact(err)
}

// direct returns the database admin of one server, whatever that says of its replica set, and what closes the
// connection.
func direct(address string) (admin *mongo.Database, closing func(), _ error) {
	client, err := mongo.Connect(options.Client().SetHosts([]string{address}).SetDirect(true).
		SetTimeout(opTimeout).SetServerSelectionTimeout(opTimeout / 2).SetRetryReads(false))
	if err != nil {
		return nil, nil, fmt.Errorf("connect to the database: %w", Redact(err))
	}
	return client.Database("admin"), func() { _ = client.Disconnect(context.Background()) }, nil
}
