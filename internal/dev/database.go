package dev

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"path/filepath"

	"clerksync/internal/mongod"
	"clerksync/store/database"
)

// mongodFolder is where StartMongod keeps its database. Its name begins as those of all our files in Folder do.
func mongodFolder() string { return filepath.Join(Folder, "clerksync.mongod") }

// HasMongod tells whether the database in Folder is that of a mongod, which only runs while 'dev' does. A folder that
// has an embedded database too stays with that.
func HasMongod() bool { return mongod.Holds(mongodFolder()) && !database.HoldsEmbedded(Folder) }

// StartMongod starts the mongod that is on PATH, with its database in Folder. It returns nil if the embedded database
// is to be started instead: if Folder holds one, or if there is no mongod that works. It says which it is, and why.
// port is the one to listen on: "" is the one that it had before, or else the first free one from 27018 on, and "0" is
// any free one. The error is database.ErrPort if it cannot have the port.
func StartMongod(
	ctx context.Context, environ []string, port string, say func(string, ...any),
) (*mongod.Server, error) {
	if database.HoldsEmbedded(Folder) {
		say("starting the embedded database: there is one in ./%s", Folder)
		return nil, nil
	}
	program, err := mongod.Find(ctx, environ)
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err != nil && HasMongod():
		return nil, fmt.Errorf("%w, and ./%s holds the database of one", err, Folder)
	case err != nil:
		say("starting the embedded database: %v", err)
		return nil, nil
	}
	if port, err = mongodPort(ctx, port); err != nil {
		return nil, err
	}
	say("starting mongod %s (%s), with its database in ./%s", program.Version, program.Path, Folder)
	s, err := mongod.Start(ctx, program, mongodFolder(), port)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", program.Path, err)
	}
	return s, nil
}

// mongodPort returns the port that StartMongod takes.
func mongodPort(ctx context.Context, port string) (string, error) {
	const first = 27018 // beside MongoDB's own, as the embedded database has it
	free := func(port string) bool { return Free(ctx, net.JoinHostPort("127.0.0.1", port)) }
	switch before := mongod.KeptPort(mongodFolder()); {
	case port == "" && before != "" && free(before):
		return before, nil
	case port == "":
		port = FreePort(ctx, "127.0.0.1", first)
	case !free(port):
		return "", fmt.Errorf("%w on port %s, which is taken", database.ErrPort, port)
	}
	if port != "0" {
		return port, nil
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0") // mongod itself does not take any port
	if err != nil {
		return "", err
	}
	_, port, err = net.SplitHostPort(l.Addr().String())
	return port, cmp.Or(err, l.Close())
}
