package testenv

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"clerksync/store/database"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/event"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// Memory is a database in memory that speaks as much of MongoDB's protocol as this project uses. It is as atomic as
// MongoDB: each write happens in one step. So what must hold with several processes can be tested on every machine, and
// each command of each process can be delayed, refused or made to look lost. Commands that it does not know are errors.
type Memory struct {
	mu          sync.Mutex
	collections map[string]*collection // by "database.collection"
}

type collection struct {
	name    string // with the database's
	docs    []bson.D
	indexes []bson.D
	options bson.D // of its creation; they are only listed
}

// NewMemory returns an empty database.
func NewMemory() *Memory { return &Memory{collections: map[string]*collection{}} }

// Verdict is what happens to a command.
type Verdict int

// The verdicts.
const (
	Apply  Verdict = iota
	Refuse         // it is not applied, and fails
	Lose           // it is applied, but fails, as if the connection broke before the answer
)

// Gate is asked about each command of a client: when it returns, the command goes on. Answered is called with the
// answer that is about to be sent, or nil if it is an error. The processes of a Lab and some tests are gates.
type Gate interface {
	Command(name string) Verdict
	Answered(reply bson.D)
}

// Connect returns a new client, as each process has its own. It is closed at the end of the test. gate, if it is not
// nil, decides about each command, and records the answers. monitor may be nil too.
func (m *Memory) Connect(t testing.TB, name string, gate Gate, monitor *event.CommandMonitor) *database.DB {
	t.Helper()
	client, err := mongo.Connect(options.Client().ApplyURI("mongodb://memory").
		SetDialer(dialer{m, gate}).SetMonitor(monitor).
		SetTimeout(time.Minute).SetRetryWrites(false).SetRetryReads(false))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := client.Disconnect(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return &database.DB{Database: client.Database(name), Log: slog.New(slog.DiscardHandler)}
}

// Clear removes every row, but no index.
func (m *Memory) Clear() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range m.collections {
		c.docs = nil
	}
}

// Ensure puts a row with only this id into a collection, unless there is one with this id.
func (m *Memory) Ensure(database, collection, id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	_ = m.collection(database + "." + collection).insert(bson.D{{Key: "_id", Value: id}}) // it is there
}

// Docs returns the rows of a collection, in the order in which they were inserted. They are not to be changed.
func (m *Memory) Docs(database, collection string) []bson.D {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.collection(database + "." + collection).docs)
}

func (m *Memory) collection(name string) *collection {
	c := m.collections[name]
	if c == nil {
		byID := bson.D{
			{Key: "v", Value: int32(2)},
			{Key: "key", Value: bson.D{{Key: "_id", Value: int32(1)}}},
			{Key: "name", Value: "_id_"},
			{Key: "unique", Value: true},
		}
		c = &collection{name: name, indexes: []bson.D{byID}}
		m.collections[name] = c
	}
	return c
}

// dialer makes the connections of one client.
type dialer struct {
	m    *Memory
	gate Gate
}

func (d dialer) DialContext(context.Context, string, string) (net.Conn, error) {
	client, server := net.Pipe()
	go serveConn(server, func(cmd bson.D) bson.D { return d.m.answer(cmd, d.gate) })
	return client, nil
}

// Listen serves the database on a loopback port until the test ends, and returns its URI. If refuse returns a code of a
// MongoDB error for a command, the command is not applied and gets that error; 0 lets it through.
func (m *Memory) Listen(t testing.TB, refuse func(command string) int32) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go serveAll(l, func(cmd bson.D) bson.D {
		if code := refuse(cmd[0].Key); code != 0 {
			return failure{code: code, text: "refused"}.reply()
		}
		return m.answer(cmd, nil)
	})
	return "mongodb://" + l.Addr().String()
}

// serveAll answers all clients until the listener is closed.
func serveAll(l net.Listener, answer func(bson.D) bson.D) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go serveConn(conn, answer)
	}
}

// serveConn answers until the client closes the connection.
func serveConn(conn net.Conn, answer func(bson.D) bson.D) {
	defer conn.Close()
	for {
		if err := serveOne(conn, answer); err != nil {
			return
		}
	}
}

// The messages of the protocol that are used (https://www.mongodb.com/docs/manual/reference/mongodb-wire-protocol/).
// OP_QUERY is the first hello of a connection.
const (
	opReply = 1
	opQuery = 2004
	opMsg   = 2013
)

func serveOne(conn net.Conn, answer func(bson.D) bson.D) error {
	var head [16]byte
	if _, err := io.ReadFull(conn, head[:]); err != nil {
		return err
	}
	id, op := binary.LittleEndian.Uint32(head[4:]), binary.LittleEndian.Uint32(head[12:])
	body := make([]byte, binary.LittleEndian.Uint32(head[:])-16)
	if _, err := io.ReadFull(conn, body); err != nil {
		return err
	}
	cmd, err := readCommand(op, body)
	if err != nil {
		return err
	}
	reply, err := bson.Marshal(answer(cmd))
	if err != nil {
		return err
	}
	prefix := make([]byte, 5) // flags and the kind of the section
	op2 := uint32(opMsg)
	if op == opQuery {
		prefix, op2 = make([]byte, 20), opReply
		prefix[16] = 1 // one document
	}
	out := make([]byte, 16, 16+len(prefix)+len(reply))
	binary.LittleEndian.PutUint32(out, uint32(cap(out)))
	binary.LittleEndian.PutUint32(out[8:], id)
	binary.LittleEndian.PutUint32(out[12:], op2)
	_, err = conn.Write(append(append(out, prefix...), reply...))
	return err
}

// readCommand returns the command with its document sequences in it.
func readCommand(op uint32, b []byte) (bson.D, error) {
	var cmd bson.D
	if op == opQuery {
		_, b, _ = bytes.Cut(b[4:], []byte{0}) // the name of the collection
		return cmd, bson.Unmarshal(b[8:], &cmd)
	}
	if op != opMsg {
		return nil, fmt.Errorf("unknown message %d", op)
	}
	for b = b[4:]; len(b) > 0; {
		kind, size := b[0], binary.LittleEndian.Uint32(b[1:])
		section := b[1 : 1+size]
		b = b[1+size:]
		if kind == 0 {
			var body bson.D
			if err := bson.Unmarshal(section, &body); err != nil {
				return nil, err
			}
			cmd = append(body, cmd...)
			continue
		}
		name, docs, _ := bytes.Cut(section[4:], []byte{0})
		var list bson.A
		for len(docs) > 0 {
			n := binary.LittleEndian.Uint32(docs)
			var d bson.D
			if err := bson.Unmarshal(docs[:n], &d); err != nil {
				return nil, err
			}
			list, docs = append(list, d), docs[n:]
		}
		cmd = append(cmd, bson.E{Key: string(name), Value: list})
	}
	return cmd, nil
}

// failure is an error with MongoDB's code for it. more are the further fields of the answer.
type failure struct {
	code int32
	text string
	more bson.D
}

func (f failure) Error() string { return f.text }

func (f failure) reply() bson.D { return append(bson.D{{Key: "ok", Value: 0.0}}, f.fields()...) }

func (f failure) fields() bson.D {
	return append(bson.D{{Key: "code", Value: f.code}, {Key: "errmsg", Value: f.text}}, f.more...)
}

const (
	codeRefused       = 96 // OperationFailed
	codeDuplicate     = 11000
	codeUnknown       = 59 // CommandNotFound
	codeBadValue      = 2
	codePathNotViable = 28
)

// notDone is the answer to what this database does not know.
func notDone(what string) failure {
	return failure{code: codeBadValue, text: "not implemented: " + what}
}

func (m *Memory) answer(cmd bson.D, gate Gate) bson.D {
	name := cmd[0].Key
	verdict := Apply
	ownCalls := []string{"hello", "isMaster", "ismaster", "ping", "buildInfo", "endSessions"} // of the driver
	gated := gate != nil && !slices.Contains(ownCalls, name)
	if gated {
		verdict = gate.Command(name)
	}
	var reply bson.D
	err := error(failure{code: codeRefused, text: "refused"})
	if verdict != Refuse {
		m.mu.Lock()
		reply, err = m.run(name, cmd)
		m.mu.Unlock()
	}
	if verdict == Lose && err == nil {
		err = failure{code: codeRefused, text: "lost"}
	}
	if err != nil {
		reply = nil
	}
	if gated {
		gate.Answered(reply)
	}
	if f := (failure{}); errors.As(err, &f) {
		return f.reply()
	}
	return append(reply, bson.E{Key: "ok", Value: 1.0})
}

func (m *Memory) run(name string, cmd bson.D) (bson.D, error) {
	database, _ := get(cmd, "$db").(string)
	target, _ := cmd[0].Value.(string)
	c := func() *collection { return m.collection(database + "." + target) }
	switch name {
	case "hello", "isMaster", "ismaster":
		return bson.D{
			{Key: "helloOk", Value: true},
			{Key: "isWritablePrimary", Value: true},
			{Key: "ismaster", Value: true},
			{Key: "maxBsonObjectSize", Value: int32(16 << 20)},
			{Key: "maxMessageSizeBytes", Value: int32(48_000_000)},
			{Key: "maxWriteBatchSize", Value: int32(100_000)},
			{Key: "minWireVersion", Value: int32(0)},
			{Key: "maxWireVersion", Value: int32(21)}, // MongoDB 7
		}, nil
	case "ping", "endSessions", "killCursors", "buildInfo":
		return bson.D{}, nil
	case "create":
		c().options = slices.DeleteFunc(slices.Clone(cmd), func(e bson.E) bool {
			return !slices.Contains([]string{"capped", "size", "validator", "validationAction", "viewOn"}, e.Key)
		})
		return bson.D{}, nil
	case "drop":
		delete(m.collections, database+"."+target)
		return bson.D{}, nil
	case "dropDatabase":
		for name := range m.collections {
			if strings.HasPrefix(name, database+".") {
				delete(m.collections, name)
			}
		}
		return bson.D{}, nil
	case "find":
		return c().find(cmd, database+"."+target)
	case "listCollections":
		return m.list(database), nil
	case "count": // of all rows: the estimate
		return bson.D{{Key: "n", Value: int32(len(c().docs))}}, nil
	case "aggregate":
		return c().count(cmd, database+"."+target)
	case "insert":
		return c().writes(cmd, "documents", func(d bson.D) (n, modified int, err error) { return 1, 0, c().insert(d) })
	case "update":
		return c().writes(cmd, "updates", c().update)
	case "delete":
		return c().writes(cmd, "deletes", c().delete)
	case "findAndModify":
		return c().take(cmd)
	case "createIndexes":
		return bson.D{}, c().createIndexes(get(cmd, "indexes"))
	case "listIndexes":
		return cursor(c().indexes, database+"."+target), nil
	}
	return nil, failure{code: codeUnknown, text: "not implemented: " + name}
}

// list answers listCollections.
func (m *Memory) list(database string) bson.D {
	var all []bson.D
	for _, full := range slices.Sorted(maps.Keys(m.collections)) {
		if name, ok := strings.CutPrefix(full, database+"."); ok {
			options, kind := m.collections[full].options, "collection"
			if get(options, "viewOn") != nil {
				kind = "view"
			}
			all = append(all, bson.D{
				{Key: "name", Value: name}, {Key: "type", Value: kind}, {Key: "options", Value: options},
			})
		}
	}
	return cursor(all, database+".$cmd.listCollections")
}

// get returns what is at a dotted path, or nil.
func get(d bson.D, path string) any {
	v, _ := lookup(d, path)
	return v
}

// lookup returns what is at a dotted path, and whether anything is: null is something.
func lookup(d bson.D, path string) (v any, there bool) {
	key, rest, nested := strings.Cut(path, ".")
	for _, e := range d {
		if e.Key != key {
			continue
		}
		if !nested {
			return e.Value, true
		}
		sub, _ := e.Value.(bson.D)
		return lookup(sub, rest)
	}
	return nil, false
}

// set returns the document with v at a dotted path. As in MongoDB, objects on the way are made where nothing is, and it
// is an error if another value is there, even null.
func set(d bson.D, path string, v any) (bson.D, error) {
	key, rest, nested := strings.Cut(path, ".")
	i := slices.IndexFunc(d, func(e bson.E) bool { return e.Key == key })
	if nested {
		sub := bson.D{}
		if i >= 0 {
			var isObject bool
			if sub, isObject = d[i].Value.(bson.D); !isObject {
				return nil, failure{
					code: codePathNotViable,
					text: fmt.Sprintf("Cannot create field '%s' in element {%s: %v}", rest, key, d[i].Value),
				}
			}
		}
		var err error
		if v, err = set(sub, rest, v); err != nil {
			return nil, err
		}
	}
	if i < 0 {
		return append(slices.Clone(d), bson.E{Key: key, Value: v}), nil
	}
	d = slices.Clone(d)
	d[i].Value = v
	return d, nil
}

// unset returns the document without what is at a dotted path.
func unset(d bson.D, path string) bson.D {
	key, rest, nested := strings.Cut(path, ".")
	i := slices.IndexFunc(d, func(e bson.E) bool { return e.Key == key })
	if i < 0 {
		return d
	}
	d = slices.Clone(d)
	if !nested {
		return slices.Delete(d, i, i+1)
	}
	if sub, isObject := d[i].Value.(bson.D); isObject {
		d[i].Value = unset(sub, rest)
	}
	return d
}

// compare orders two values of one type; ok is false if there is no order.
func compare(a, b any) (order int, ok bool) {
	number := func(v any) (float64, bool) {
		switch v := v.(type) {
		case int32:
			return float64(v), true
		case int64:
			return float64(v), true
		case float64:
			return v, true
		case bson.DateTime:
			return float64(v), true
		}
		return 0, false
	}
	if x, ok := number(a); ok {
		y, ok := number(b)
		return int(min(max(x-y, -1), 1)), ok // times are whole milliseconds
	}
	if x, ok := a.(string); ok {
		y, ok := b.(string)
		return strings.Compare(x, y), ok
	}
	if x, ok := a.(bson.ObjectID); ok {
		y, ok := b.(bson.ObjectID)
		return bytes.Compare(x[:], y[:]), ok
	}
	x, ok := a.(bool)
	y, ok2 := b.(bool)
	return map[bool]int{true: 0, false: 1}[x == y], ok && ok2
}

func matches(d, filter bson.D) (bool, error) {
	for _, f := range filter {
		if all, ok := f.Value.(bson.A); ok && f.Key == "$and" {
			for _, sub := range all {
				if ok, err := matches(d, sub.(bson.D)); !ok || err != nil {
					return false, err
				}
			}
			continue
		}
		v, there := lookup(d, f.Key)
		ops, isOps := f.Value.(bson.D)
		if !isOps {
			ops = bson.D{{Key: "$eq", Value: f.Value}}
		}
		for _, op := range ops {
			order, ok := compare(v, op.Value)
			switch op.Key {
			case "$eq":
				ok = ok && order == 0 || reflect.DeepEqual(v, op.Value)
			case "$type":
				// no other is used
				_, isText := v.(string)
				ok = op.Value == "null" && there && v == nil || op.Value == "string" && isText
			case "$ne":
				ok = !slices.ContainsFunc(reach(d, f.Key), func(v any) bool { return equal(v, op.Value) })
			case "$lt":
				ok = ok && order < 0
			case "$lte":
				ok = ok && order <= 0
			case "$gt":
				ok = ok && order > 0
			case "$gte":
				ok = ok && order >= 0
			case "$exists":
				ok = there == op.Value
			case "$in":
				list, _ := op.Value.(bson.A)
				ok = slices.ContainsFunc(list, func(e any) bool { o, ok := compare(v, e); return ok && o == 0 })
			default:
				return false, notDone(op.Key)
			}
			if !ok {
				return false, nil
			}
		}
	}
	return true, nil
}

func (c *collection) matching(filter any) ([]bson.D, error) {
	f, _ := filter.(bson.D)
	var found []bson.D
	for _, d := range c.docs {
		ok, err := matches(d, f)
		if err != nil {
			return nil, err
		}
		if ok {
			found = append(found, d)
		}
	}
	return found, nil
}

func cursor(docs []bson.D, namespace string) bson.D {
	batch := make(bson.A, len(docs))
	for i, d := range docs {
		batch[i] = d
	}
	c := bson.D{{Key: "id", Value: int64(0)}, {Key: "ns", Value: namespace}, {Key: "firstBatch", Value: batch}}
	return bson.D{{Key: "cursor", Value: c}}
}

func (c *collection) find(cmd bson.D, namespace string) (bson.D, error) {
	docs, err := c.matching(get(cmd, "filter"))
	if err != nil {
		return nil, err
	}
	if by, _ := get(cmd, "sort").(bson.D); len(by) > 0 {
		slices.SortStableFunc(docs, func(a, b bson.D) int {
			order, _ := compare(get(a, by[0].Key), get(b, by[0].Key))
			if down, _ := compare(by[0].Value, int32(0)); down < 0 {
				return -order
			}
			return order
		})
	}
	if limit, _ := compare(get(cmd, "limit"), int32(0)); limit > 0 {
		var n int
		_, _ = fmt.Sscan(fmt.Sprint(get(cmd, "limit")), &n) // whatever type the driver chose
		docs = docs[:min(n, len(docs))]
	}
	if projection, _ := get(cmd, "projection").(bson.D); len(projection) > 0 {
		for i := range docs {
			docs[i] = project(docs[i], projection)
		}
	}
	return cursor(docs, namespace), nil
}

// project leaves out the fields that a projection names with 0, or else all but those that it names and the _id.
func project(d, projection bson.D) bson.D {
	kept, without := bson.D{{Key: "_id", Value: get(d, "_id")}}, false
	for _, p := range projection {
		if keep, _ := compare(p.Value, int32(0)); keep == 0 {
			d, without = unset(d, p.Key), true
		} else if v, there := lookup(d, p.Key); there {
			kept, _ = set(kept, p.Key, v) // there is nothing in the way
		}
	}
	if without {
		return d
	}
	return kept
}

// count answers what CountDocuments asks.
func (c *collection) count(cmd bson.D, namespace string) (bson.D, error) {
	stages, _ := get(cmd, "pipeline").(bson.A)
	if len(stages) != 2 {
		return nil, notDone("a pipeline")
	}
	docs, err := c.matching(get(stages[0].(bson.D), "$match"))
	if err != nil || len(docs) == 0 {
		return cursor(nil, namespace), err
	}
	return cursor([]bson.D{{{Key: "_id", Value: int32(1)}, {Key: "n", Value: int32(len(docs))}}}, namespace), nil
}

// writes does each of the writes of a command, up to the first error if it is ordered.
func (c *collection) writes(cmd bson.D, list string, write func(bson.D) (n, modified int, err error)) (bson.D, error) {
	all, _ := get(cmd, list).(bson.A)
	var n, modified int
	var errs bson.A
	for i, w := range all {
		matched, changed, err := write(w.(bson.D))
		n, modified = n+matched, modified+changed
		if f := (failure{}); errors.As(err, &f) {
			errs = append(errs, append(bson.D{{Key: "index", Value: int32(i)}}, f.fields()...))
			if get(cmd, "ordered") != false {
				break
			}
		}
	}
	reply := bson.D{{Key: "n", Value: int32(n)}}
	if list == "updates" {
		reply = append(reply, bson.E{Key: "nModified", Value: int32(modified)})
	}
	if len(errs) > 0 {
		reply = append(reply, bson.E{Key: "writeErrors", Value: errs})
	}
	return reply, nil
}

// entry returns what a document has in an index, by the fields of the index, and whether it is in the index at all: a
// sparse index leaves out those that have none of its fields, and a partial one those that its filter does not match.
func entry(index, d bson.D) (bson.D, bool, error) {
	var values bson.D
	any := false
	for _, field := range get(index, "key").(bson.D) {
		v, there := lookup(d, field.Key)
		values, any = append(values, bson.E{Key: field.Key, Value: v}), any || there
	}
	if filter, partial := get(index, "partialFilterExpression").(bson.D); partial {
		in, err := matches(d, filter)
		return values, in, err
	}
	return values, any || get(index, "sparse") != true, nil
}

// same tells whether two documents have the same in an index. A field that is missing counts as null.
func same(a, b bson.D) bool {
	for i := range a {
		if !equal(a[i].Value, b[i].Value) {
			return false
		}
	}
	return true
}

func equal(a, b any) bool {
	if order, ok := compare(a, b); ok {
		return order == 0
	}
	return reflect.DeepEqual(a, b)
}

// unique returns an error if a unique index does not allow d beside the other rows; old is the row that it replaces.
func (c *collection) unique(d, old bson.D) error {
	for _, index := range c.indexes {
		if get(index, "unique") != true {
			continue
		}
		values, in, err := entry(index, d)
		if err != nil {
			return err
		}
		for _, other := range c.docs {
			if !in || old != nil && equal(get(other, "_id"), get(old, "_id")) {
				continue
			}
			theirs, both, err := entry(index, other)
			if err != nil {
				return err
			}
			if both && same(values, theirs) {
				return c.duplicate(index, values)
			}
		}
	}
	return nil
}

// duplicate is the error of MongoDB for a value that a unique index has already.
func (c *collection) duplicate(index, values bson.D) error {
	var shown []string
	for _, e := range values {
		shown = append(shown, fmt.Sprintf("%s: %#v", e.Key, e.Value))
	}
	return failure{
		code: codeDuplicate,
		text: fmt.Sprintf("E11000 duplicate key error collection: %s index: %s dup key: { %s }", c.name,
			get(index, "name"), strings.Join(shown, ", ")),
		more: bson.D{{Key: "keyPattern", Value: get(index, "key")}, {Key: "keyValue", Value: values}},
	}
}

func (c *collection) insert(d bson.D) error {
	if err := c.unique(d, nil); err != nil {
		return err
	}
	c.docs = append(c.docs, d)
	return nil
}

func (c *collection) update(w bson.D) (n, modified int, err error) {
	if get(w, "multi") == true {
		return 0, 0, notDone("multi")
	}
	found, err := c.matching(get(w, "q"))
	if err != nil {
		return 0, 0, err
	}
	inserts := len(found) == 0
	if inserts {
		if get(w, "upsert") != true {
			return 0, 0, nil
		}
		d := bson.D{{Key: "_id", Value: get(get(w, "q").(bson.D), "_id")}} // no other value is asked for with it
		if err := c.insert(d); err != nil {
			return 0, 0, err
		}
		found = append(found, d)
	}
	d := found[0]
	for _, op := range get(w, "u").(bson.D) {
		for _, f := range op.Value.(bson.D) {
			switch op.Key {
			case "$set":
				d, err = set(d, f.Key, f.Value)
			case "$setOnInsert":
				if inserts {
					d, err = set(d, f.Key, f.Value)
				}
			case "$push":
				d, err = push(d, f.Key, f.Value)
			case "$unset":
				d = unset(d, f.Key)
			default:
				err = notDone(op.Key)
			}
			if err != nil {
				if inserts {
					c.docs = c.docs[:len(c.docs)-1]
				}
				return 0, 0, err
			}
		}
	}
	if err := c.unique(d, found[0]); err != nil {
		return 0, 0, err
	}
	c.docs[c.place(found[0])] = d
	return 1, 1, nil
}

func (c *collection) delete(w bson.D) (n, modified int, err error) {
	found, err := c.matching(get(w, "q"))
	if limit, _ := compare(get(w, "limit"), int32(0)); limit > 0 {
		found = found[:min(1, len(found))]
	}
	for _, d := range found {
		i := c.place(d)
		c.docs = slices.Delete(slices.Clone(c.docs), i, i+1)
	}
	return len(found), 0, err
}

// take answers findAndModify, of which it knows the removal alone.
func (c *collection) take(cmd bson.D) (bson.D, error) {
	if get(cmd, "remove") != true {
		return nil, failure{code: codeUnknown, text: "not implemented: findAndModify without remove"}
	}
	found, err := c.matching(get(cmd, "query"))
	if err != nil || len(found) == 0 {
		return bson.D{{Key: "value", Value: nil}}, err
	}
	i := c.place(found[0])
	c.docs = slices.Delete(slices.Clone(c.docs), i, i+1)
	if fields, _ := get(cmd, "fields").(bson.D); len(fields) > 0 {
		found[0] = project(found[0], fields)
	}
	return bson.D{{Key: "value", Value: found[0]}}, nil
}

func (c *collection) place(d bson.D) int {
	return slices.IndexFunc(c.docs, func(o bson.D) bool { return equal(get(o, "_id"), get(d, "_id")) })
}

func (c *collection) createIndexes(list any) error {
	indexes, _ := list.(bson.A)
	for _, i := range indexes {
		index := i.(bson.D)
		if slices.ContainsFunc(c.indexes, func(o bson.D) bool { return get(o, "name") == get(index, "name") }) {
			continue
		}
		c.indexes = append(c.indexes, index)
		for i, d := range c.docs {
			if err := (&collection{name: c.name, docs: c.docs[:i], indexes: c.indexes}).unique(d, nil); err != nil {
				c.indexes = c.indexes[:len(c.indexes)-1]
				return err
			}
		}
	}
	return nil
}
