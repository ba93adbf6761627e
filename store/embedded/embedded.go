//go:build !noembedded

// Package embedded runs a database that speaks MongoDB's protocol inside this process: FerretDB v1 on SQLite files in
// one folder. It is for development and for tests; docs/adr/0004-embedded-database.md says what it cannot do.
package embedded

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path"
	"strings"
	"sync"
	"syscall"

	"github.com/FerretDB/FerretDB/ferretdb"
	_ "modernc.org/sqlite" // FerretDB's own driver, for IndexIDs
)

// opening lets one database be opened at a time in this process, because FerretDB writes to a variable of its own
// meanwhile.
var opening sync.Mutex //nolint:gochecknoglobals // guards a global of FerretDB

// Server is a running database. Its methods are safe for concurrent use.
type Server struct {
	uri    string
	folder *folder
	close  func() error
}

// Start opens the data folder dir, making it if needed, and serves it on addr until Close; ctx bounds only the start.
// It returns when the server listens. The server asks nobody for a password, so addr is a loopback address
// ("127.0.0.1:0" for any free port) and any other is an error. "" is the port that a server of the folder had the last
// time, or else the first free one from 27018 on. The error is ErrLocked if another server, of this process or of
// another, has the folder. Warnings of FerretDB go to log, without their details.
func Start(ctx context.Context, dir, addr string, log *slog.Logger) (*Server, error) {
	return startFrom(ctx, firstPort, dir, addr, log)
}

// startFrom is Start with another port than 27018.
func startFrom(ctx context.Context, first int, dir, addr string, log *slog.Logger) (*Server, error) {
	kept := addr == ""
	if ap, err := netip.ParseAddrPort(addr); !kept && (err != nil || !ap.Addr().IsLoopback()) {
		return nil, fmt.Errorf("the embedded database has no authentication and cannot listen on %q: use "+
			"127.0.0.1:PORT", addr)
	}
	f, err := openFolder(dir)
	if err != nil {
		return nil, err
	}
	if kept {
		addr = f.keptAddress(ctx, first)
	}
	db, err := open(ctx, f, addr, log)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the database in the folder %s: %w", dir, err), f.close())
	}
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	stopped := make(chan error, 1)
	go func() {
		_ = db.Run(serving) // is always nil
		stopped <- f.close()
	}()
	s := &Server{uri: db.MongoDBURI(), folder: f, close: sync.OnceValue(func() error {
		stop()
		return <-stopped
	})}
	err = f.announce(s.uri)
	if kept && err == nil {
		err = f.keep(addr)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("say in the folder %s where the database is: %w", dir, err), s.Close())
	}
	return s, nil
}

// open opens the databases in f and listens on addr.
func open(ctx context.Context, f *folder, addr string, log *slog.Logger) (*ferretdb.FerretDB, error) {
	// FerretDB must not be the one to find that addr is taken: what it then leaves behind panics in a finalizer.
	if err := tryListen(ctx, addr); err != nil {
		return nil, err
	}
	opening.Lock()
	defer opening.Unlock()
	return ferretdb.New(&ferretdb.Config{
		Listener:  ferretdb.ListenerConfig{TCP: addr},
		Logger:    slog.New(warnings{log.Handler()}),
		Handler:   "sqlite",
		SQLiteURL: "file:" + f.url + "?" + pragmas,
	})
}

// URI returns the connection string, "mongodb://127.0.0.1:PORT/".
func (s *Server) URI() string { return s.uri }

// Close stops the server and frees its folder. Disconnect the clients first: what is left of them gets 3 seconds to
// end, a time FerretDB does not let us change. Calls after the first return what that one did.
func (s *Server) Close() error { return s.close() }

// IndexIDs gives each collection of the database an index that lookups by _id use: FerretDB's own is on
// _ferretdb_sjson->'_id' while its queries ask for _ferretdb_sjson->'$._id', so that each of them would read the whole
// collection. The collections must exist, later ones get none. It may be repeated. It is an error if there is no such
// database. The index is unique: a process that is killed while FerretDB makes a collection leaves it without
// FerretDB's own.
func (s *Server) IndexIDs(ctx context.Context, database string) error {
	return s.query(database, "index the _ids of "+database, func(db *sql.DB) error {
		// One string instead of rows: nothing to close, and no reader open while the indexes are made.
		var statements sql.NullString
		err := db.QueryRowContext(ctx, `SELECT group_concat(format(
				'CREATE UNIQUE INDEX IF NOT EXISTS "%w_id_path" ON "%w" (_ferretdb_sjson->''$._id'')',
				table_name, table_name), ';')
			FROM _ferretdb_collections`).Scan(&statements)
		if err != nil || !statements.Valid {
			return err
		}
		_, err = db.ExecContext(ctx, statements.String)
		return err
	})
}

// IDs returns the _ids of a collection of the database that are strings between two others, in their order, and with
// each the text that its row has at a path such as clerk.version, "" where there is no text or the path is "". It reads
// the SQLite file by the index that IndexIDs makes. A collection that does not exist has none.
func (s *Server) IDs(
	ctx context.Context, database, collection, path, after, before string, limit int,
) (ids, texts []string, err error) {
	err = s.query(database, "read the _ids of "+collection, func(db *sql.DB) error {
		statement, err := about(ctx, db, collection, `SELECT json_extract(_ferretdb_sjson, '$._id'),
				iif(json_type(_ferretdb_sjson, ?1) = 'text', json_extract(_ferretdb_sjson, ?1), '') FROM "%w"
			WHERE _ferretdb_sjson->'$._id' > json_quote(?2) AND _ferretdb_sjson->'$._id' < json_quote(?3)
			ORDER BY _ferretdb_sjson->'$._id' LIMIT ?4`)
		if statement == "" || err != nil {
			return err
		}
		rows, err := db.QueryContext(ctx, statement, strings.TrimSuffix("$."+path, "."), after, before, limit)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var id, text string
			if err := rows.Scan(&id, &text); err != nil {
				return err
			}
			ids, texts = append(ids, id), append(texts, text)
		}
		return rows.Err()
	})
	return ids, texts, err
}

// Count returns how many rows a collection of the database has. A collection that does not exist has none.
func (s *Server) Count(ctx context.Context, database, collection string) (n int, err error) {
	err = s.query(database, "count the rows of "+collection, func(db *sql.DB) error {
		statement, err := about(ctx, db, collection, `SELECT count(*) FROM "%w"`)
		if statement == "" || err != nil {
			return err
		}
		return db.QueryRowContext(ctx, statement).Scan(&n)
	})
	return n, err
}

// about returns a statement with the name of a collection's table for its %w, or "" if there is no such collection.
func about(ctx context.Context, db *sql.DB, collection, statement string) (text string, err error) {
	err = db.QueryRowContext(ctx, `SELECT format(?, table_name) FROM _ferretdb_collections WHERE name = ?`,
		statement, collection).Scan(&text)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	return text, err
}

// query asks the SQLite file of a database; its error begins with what f does.
func (s *Server) query(database, what string, f func(*sql.DB) error) error {
	db, err := sql.Open("sqlite", s.folder.file(database)) // connects at the first query
	if err != nil {
		return err
	}
	if err := errors.Join(f(db), db.Close()); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// warnings passes FerretDB's warnings and errors on. Messages as well as attributes of FerretDB can quote documents,
// which are personal data, so all it tells is the place in FerretDB's source that they come from.
type warnings struct{ to slog.Handler }

func (w warnings) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn && w.to.Enabled(ctx, level)
}

func (w warnings) Handle(ctx context.Context, r slog.Record) error {
	at := r.Source()
	// logResponse tells of a refused command: its client has got the error, and is the one to log it.
	if at == nil || strings.HasSuffix(at.Function, ".logResponse") || hungUp(r) {
		return nil
	}
	out := slog.NewRecord(r.Time, r.Level, "embedded database warned", r.PC)
	out.AddAttrs(slog.String("at", fmt.Sprintf("%s:%d", path.Base(at.Function), at.Line)))
	return w.to.Handle(ctx, out)
}

// hungUp tells whether a client has closed its connection while it was being answered or in the middle of a message, as
// the driver does when a context ends and a program does when it is killed, or is still connected at our own end, as
// the pool of an app is.
func hungUp(r slog.Record) bool {
	says := func(text string) bool {
		for _, err := range []error{
			syscall.EPIPE, syscall.ECONNRESET, io.ErrUnexpectedEOF, os.ErrDeadlineExceeded, net.ErrClosed,
		} {
			if strings.HasSuffix(text, err.Error()) {
				return true
			}
		}
		return false
	}
	yes := says(r.Message)
	r.Attrs(func(a slog.Attr) bool {
		yes = yes || says(a.Value.String())
		return !yes
	})
	return yes
}

func (w warnings) WithAttrs([]slog.Attr) slog.Handler { return w }

func (w warnings) WithGroup(string) slog.Handler { return w }
