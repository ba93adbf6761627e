package database

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
)

// Server is what a database tells of itself.
type Server struct {
	Name    string // "MongoDB" or "FerretDB"
	Version string // "" if it does not tell
	Kind    Kind
	Ahead   time.Duration // by how much its clock is ahead of ours; 0 if it does not tell
}

// Kind is what a database can be trusted with.
type Kind int

// The kinds.
const (
	Replicated Kind = iota // a replica set, or sharded
	StandAlone             // one server acknowledges a write, and may lose it with its disk
	OneProcess             // FerretDB v1, which only one process may write to
)

// Inspect asks the database what it is.
func (db *DB) Inspect(ctx context.Context) (Server, error) {
	info, err := db.build(ctx)
	if err != nil {
		return Server{}, err
	}
	var hello struct {
		SetName   string    `bson:"setName"`
		Msg       string    `bson:"msg"` // "isdbgrid" of a router to shards
		LocalTime time.Time `bson:"localTime"`
	}
	asked := time.Now()
	if err := db.RunCommand(ctx, bson.D{{Key: "hello", Value: 1}}).Decode(&hello); err != nil {
		return Server{}, fmt.Errorf("ask the database what it is: %w", Redact(err))
	}
	s := Server{Name: "MongoDB", Version: info.Version}
	switch {
	case db.OneProcess:
		s.Kind = OneProcess
	case hello.SetName == "" && hello.Msg != "isdbgrid":
		s.Kind = StandAlone
	}
	if v := info.FerretDBv1 + info.FerretDB.Version; v != "" { // whose Version is that of the MongoDB it stands in for
		s.Name, s.Version = "FerretDB", v
	}
	if s.Version == "unknown" { // FerretDB's where another program holds it
		s.Version = ""
	}
	if !hello.LocalTime.IsZero() {
		s.Ahead = hello.LocalTime.Sub(asked.Add(time.Since(asked) / 2))
	}
	return s, nil
}

// build is the version of a server, and what tells FerretDB.
type build struct {
	Version    string `bson:"version"`
	FerretDBv1 string `bson:"ferretdbVersion"`
	FerretDB   struct {
		Version string `bson:"version"`
	} `bson:"ferretdb"` // v2
}

func (db *DB) build(ctx context.Context) (build, error) {
	var b build
	err := db.RunCommand(ctx, bson.D{{Key: "buildInfo", Value: 1}}).Decode(&b)
	// A server that does not know buildInfo is not FerretDB. One that answers with another error may be.
	if ce := (mongo.CommandError{}); err != nil && (!errors.As(err, &ce) || MayPass(err)) {
		return b, fmt.Errorf("ask the database what it is: %w", Redact(err))
	}
	return b, nil
}
