package main

import (
	"errors"
	"fmt"

	"clerksync/app"
	"clerksync/store/mapping"
	"clerksync/types"
)

type typesCmd struct {
	Format string `enum:"mongoose,typescript,schema" default:"mongoose" help:"What to print: ${enum}."`
}

// Help returns the text of --help besides the flags.
func (typesCmd) Help() string {
	return "It needs no database and no key, only the map: the file that CLERKSYNC_MAP names, or ./" + app.MapFile +
		", or else the default map. 'mongoose' is a model for mongoose 8 and 9, as an ES module; 'typescript' is an " +
		"interface. Both say what clerksync writes and where fields of your own go. 'schema' is the JSON Schema of " +
		"the map's file, for editors."
}

// Run prints the types.
func (c typesCmd) Run(e env) error {
	if c.Format == "schema" {
		_, err := fmt.Fprint(e.stdout, mapping.Schema())
		return err
	}
	cfg, mistakes := readSettings(e.environ)
	m, err := app.LoadMap(cfg)
	if err := errors.Join(mistakes.Only("CLERKSYNC_").Err(), err); err != nil {
		return err
	}
	code := types.Mongoose
	if c.Format == "typescript" {
		code = types.TypeScript
	}
	_, err = fmt.Fprint(e.stdout, code(m))
	return err
}
