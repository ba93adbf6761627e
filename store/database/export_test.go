package database

// ReadLists makes PushEach work as on a server that does not have the operators for lists.
func (db *DB) ReadLists() { db.readsLists.Store(true) }
