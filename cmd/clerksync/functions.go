package main

import (
	"clerksync/config"
	"clerksync/functions"
)

// appFunctions returns your own functions, one per line: see docs/your-own-function.md.
func appFunctions(_ config.Config) []functions.Function {
	return []functions.Function{}
}
