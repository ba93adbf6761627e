package main

import (
	"clerksync/config"
	"clerksync/functions"
)

// appFunctions are the functions of your own, a line each: see docs/your-own-function.md.
func appFunctions(_ config.Config) []functions.Function {
	return []functions.Function{}
}
