package main

import "clerksync/functions"

// appFunctions are the functions of your own, a line each: see docs/your-own-function.md.
func appFunctions() []functions.Function {
	return []functions.Function{}
}
