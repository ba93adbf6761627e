package database

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
)

// Server is what a database says about itself.
type Server struct {
	Name    string // "MongoDB" or "FerretDB"
	Version string // "" if it does not say
	Kind    Kind
	Ahead   time.Duration // how far its clock is ahead of ours; 0 if it does not say
}

// Kind says how safe writes to a database are.
type Kind int

// The kinds.
const (
	Replicated Kind = iota // a replica set, or a sharded cluster
	StandAlone             // a single server, which loses acknowledged writes if it loses its disk
	OneProcess             // FerretDB v1, to which only one process may write
)

// Inspect asks the database what it is.
func (db *DB) Inspect(ctx context.Context) (Server, error) {
	info, err := db.build(ctx)
	if err != nil {
		return Server{}, err
	}
	var hello struct {
		SetName   string    `bson:"setName"`
		Msg       string    `bson:"msg"` // "isdbgrid" from the router of a sharded cluster
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
	// FerretDB's info.Version is the version of MongoDB that it imitates.
	if v := info.FerretDBv1 + info.FerretDB.Version; v != "" {
		s.Name, s.Version = "FerretDB", v
	}
	if s.Version == "unknown" { // FerretDB says so if it is embedded in another program
		s.Version = ""
	}
	if !hello.LocalTime.IsZero() {
		s.Ahead = hello.LocalTime.Sub(asked.Add(time.Since(asked) / 2))
	}
	return s, nil
}

// build has the version of a server, and the fields by which FerretDB is recognized.
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
	// If a server does not know buildInfo, it is not FerretDB. If it answers with an error that may pass, it may be
	// FerretDB.
	if ce := (mongo.CommandError{}); err != nil && (!errors.As(err, &ce) || MayPass(err)) {
		return b, fmt.Errorf("ask the database what it is: %w", Redact(err))
	}
	return b, nil
}
