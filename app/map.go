package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"clerksync/config"
	"clerksync/store/mapping"
)

// MapFile is the file in the working folder that has the map if CLERKSYNC_MAP names none.
const MapFile = "clerksync.yaml"

// LoadMap reads the map: the file that CLERKSYNC_MAP names, else MapFile if it is there, else the default map. The error
// has a line for each mistake.
func LoadMap(c config.Config) (*mapping.Map, error) {
	if c.Map != "" {
		m, err := mapping.Load(c.Map)
		if errors.As(err, new(*fs.PathError)) {
			err = fmt.Errorf("CLERKSYNC_MAP: %w: set it to a file that this process can read, or leave it unset", err)
		}
		return m, err
	}
	if _, err := os.Lstat(MapFile); errors.Is(err, fs.ErrNotExist) {
		return mapping.Default(), nil
	}
	m, err := mapping.Load(MapFile)
	if errors.As(err, new(*fs.PathError)) {
		err = fmt.Errorf("the map in the working folder: %w: make it a file that this process can read, or remove it", err)
	}
	return m, err
}

// noteMap logs where rows are written, and what in the map needs care.
func (a *App) noteMap(ctx context.Context, m *mapping.Map) {
	file := m.File
	if file == "" {
		file = "none, this is the default map"
	}
	a.log.InfoContext(ctx, "users are written to this collection", "collection", m.Collection, "key", m.Key, "map", file)
	if _, embedded := a.cfg.Embedded(); embedded && m.Key != mapping.IDField {
		a.log.WarnContext(ctx, "the embedded database reads the whole collection for each look-up by this key: "+
			"set MONGODB_URI to a MongoDB for more than a few hundred users", "key", m.Key)
	}
	for _, w := range m.Warnings() {
		a.log.WarnContext(ctx, "the map needs care", "line", w)
	}
}
