package app

import (
	"cmp"
	"context"
	"fmt"

	"clerksync/store/database"
	"clerksync/store/mapping"
)

// place is where a map has the rows. Rows that were written in one place are not found in another, and a second service
// with another place would share the tombstones and the inbox of the first.
type place struct {
	Collection string `bson:"collection"`
	Key        string `bson:"key"`
	State      string `bson:"state"`
}

func (p place) String() string {
	return fmt.Sprintf("in %s by %s, with the state in %s", p.Collection, p.Key, p.State)
}

// keptBy is the Inngest app whose functions write the rows.
type keptBy struct {
	ID string `bson:"id"`
}

func placeOf(m *mapping.Map) place { return place{m.Collection, m.Key, m.State} }

// Names of the documents in the state of the database that say where its rows are, and whose they are.
const (
	placeName = "map"
	appName   = "inngest_app"
)

// CheckMap fails if the rows in the database are in another place than where the map has them, or belong to another
// Inngest app. An appID of "" is not compared. It writes nothing.
func CheckMap(ctx context.Context, db *database.DB, m *mapping.Map, appID string) error {
	const do = "or set MONGODB_DATABASE to a database of its own; to change it on purpose, stop all services and " +
		"run 'clerksync backfill --switch-map'"
	state := database.NewCheckpoints(db)
	was, err := rememberedPlace(ctx, state)
	if err != nil {
		return err
	}
	if is := placeOf(m); was != (place{}) && was != is {
		file := cmp.Or(m.File, "no map is set (CLERKSYNC_MAP, or "+MapFile+" in the working folder), which")
		return fmt.Errorf("%s has the users %s, but in this database they are %s: use the map that they were written "+
			"with, %s", file, is, was, do)
	}
	var app keptBy
	if _, err = state.Load(ctx, appName, &app); err == nil && app.ID != "" && appID != "" && app.ID != appID {
		err = fmt.Errorf("INNGEST_APP_ID is %s, but the users in this database are kept by the app %s: "+
			"set it to that, %s", appID, app.ID, do)
	}
	return err
}

// RememberMap is CheckMap, and if the database remembers no map or app, it remembers these from then on.
func RememberMap(ctx context.Context, db *database.DB, m *mapping.Map, appID string) error {
	if err := CheckMap(ctx, db, m, appID); err != nil {
		return err
	}
	state := database.NewCheckpoints(db)
	err := state.SaveFirst(ctx, placeName, placeOf(m))
	if err == nil && appID != "" {
		err = state.SaveFirst(ctx, appName, keptBy{appID})
	}
	if err != nil {
		return err
	}
	return CheckMap(ctx, db, m, appID) // of two first starts at the same time one saves, and both compare with that
}

// SwitchMap makes the database remember this map, whatever it has remembered, and no app.
func SwitchMap(ctx context.Context, db *database.DB, m *mapping.Map) error {
	state := database.NewCheckpoints(db)
	if err := state.Remove(ctx, appName); err != nil {
		return err
	}
	return state.Save(ctx, placeName, placeOf(m))
}

// rememberedPlace returns where the rows in the database are, or the zero place if it has none yet. Versions before
// maps remembered other things but no place; theirs was the default map's.
func rememberedPlace(ctx context.Context, state database.Checkpoints) (p place, _ error) {
	there, err := state.Load(ctx, placeName, &p)
	if there || err != nil {
		return p, err
	}
	used, err := state.Any(ctx)
	if !used || err != nil {
		return p, err
	}
	// Whoever saved it may have saved the place just before.
	there, err = state.Load(ctx, placeName, &p)
	if !there && err == nil {
		p = placeOf(mapping.Default())
	}
	return p, err
}
