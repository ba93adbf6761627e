package testenv

import (
	"fmt"
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// reach returns all values that a dotted path reaches: through a list it goes into each element, as on MongoDB.
func reach(v any, path string) []any {
	key, rest, nested := strings.Cut(path, ".")
	switch v := v.(type) {
	case bson.A:
		var all []any
		for _, e := range v {
			all = append(all, reach(e, path)...)
		}
		return all
	case bson.D:
		for _, e := range v {
			if e.Key != key {
				continue
			}
			if !nested {
				return []any{e.Value}
			}
			return reach(e.Value, rest)
		}
	}
	return nil
}

// push returns the document after $push with $each, $sort by one field upwards, and $slice from the end.
func push(d bson.D, path string, v any) (bson.D, error) {
	old, there := lookup(d, path)
	list, isList := old.(bson.A)
	if there && !isList {
		return nil, failure{code: codeBadValue, text: fmt.Sprintf("The field '%s' must be an array", path)}
	}
	list = slices.Clone(list)
	how, _ := v.(bson.D)
	each, hasEach := get(how, "$each").(bson.A)
	if !hasEach {
		return nil, notDone("$push without $each")
	}
	list = append(list, each...)
	for _, op := range how {
		switch op.Key {
		case "$each":
		case "$sort":
			by := op.Value.(bson.D)[0].Key
			slices.SortStableFunc(list, func(a, b any) int {
				x, _ := a.(bson.D)
				y, _ := b.(bson.D)
				order, _ := compare(get(x, by), get(y, by))
				return order
			})
		case "$slice":
			var n int
			_, _ = fmt.Sscan(fmt.Sprint(op.Value), &n) // whatever type the driver chose
			if n >= 0 {
				return nil, notDone("$slice from the beginning")
			}
			list = list[max(0, len(list)+n):]
		default:
			return nil, notDone(op.Key)
		}
	}
	return set(d, path, list)
}
