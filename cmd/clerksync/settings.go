package main

import (
	"errors"
	"os"

	"clerksync/app"
	"clerksync/config"
)

// readConfigForCommand reads the settings for a command other than 'serve' and 'dev'. Without MONGODB_URI the database
// is that of 'clerksync dev' in this folder.
func readConfigForCommand(environ []string) (config.Config, error) {
	cfg, err := config.Read(environ)
	takeDevFolder(&cfg)
	return cfg, errors.Join(err, app.CheckClerkAPI(cfg), app.CheckDatabase(cfg))
}

// takeDevFolder sets the database to that of 'clerksync dev' in this folder, if none is set and there is one, and tells
// whether it did.
func takeDevFolder(c *config.Config) bool {
	if _, err := os.Stat(devFolder); c.MongoURI != "" || err != nil {
		return false
	}
	c.MongoURI = config.EmbeddedPrefix + "./" + devFolder
	return true
}
