package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"unicode"

	"clerksync/config"
	"clerksync/store/mapping"
)

// MapFile is the file in the working folder that has the map if CLERKSYNC_MAP names none.
const MapFile = "clerksync.yaml"

// LoadMap reads the map: the file that CLERKSYNC_MAP names, else MapFile if it is there, else the default map. The
// error has a line for each mistake.
func LoadMap(c config.Config) (*mapping.Map, error) {
	path, what, do := c.Map, "CLERKSYNC_MAP", "set it to a file that this process can read, or leave it unset"
	switch {
	case strings.TrimSpace(path) != path, strings.ContainsFunc(path, unicode.IsControl):
		return nil, errors.New("CLERKSYNC_MAP holds white space at an end, or a control character: " +
			"copy the file's name alone, without the end of the line")
	case path == "" && !exists(MapFile):
		if near := "clerksync.yml"; exists(near) { // without this the users would go to another collection, unnoticed
			return nil, fmt.Errorf("the file %s is not read: name it %s, or set CLERKSYNC_MAP to it", near, MapFile)
		}
		return mapping.Default(), nil
	case path == "":
		path, what, do = MapFile, "the map in the working folder",
			"make it a file that this process can read, or remove it"
	}
	m, err := mapping.Load(path)
	if errors.As(err, new(*fs.PathError)) {
		err = fmt.Errorf("%s: %w: %s", what, err, do)
	}
	return m, err
}

// exists tells whether there is something of that name, be it a folder or a link that leads nowhere.
func exists(name string) bool {
	_, err := os.Lstat(name)
	return !errors.Is(err, fs.ErrNotExist)
}

// noteMap logs where rows are written, and what in the map needs care.
func (a *App) noteMap(ctx context.Context, m *mapping.Map) {
	file := m.File
	if file == "" {
		file = "none, this is the default map"
	}
	a.log.InfoContext(ctx, "users are written to this collection",
		"collection", m.Collection, "key", m.Key, "map", file)
	if _, embedded := a.cfg.Embedded(); embedded && m.Key != mapping.IDField {
		a.log.WarnContext(ctx, "the embedded database reads the whole collection for each look-up by this key: "+
			"set MONGODB_URI to a MongoDB for more than a few hundred users", "key", m.Key)
	}
	for _, w := range m.Warnings() {
		a.log.WarnContext(ctx, "the map needs care", "line", w)
	}
}
