package mapping

import (
	"math"
	"slices"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.yaml.in/yaml/v3"
)

// maxLevels is how many levels a constant may have: MongoDB stores 100 in a document.
const maxLevels = 90

// constant returns the BSON of a YAML value. Whole numbers have 32 bits if they fit, as Node's driver writes them.
func (r *reader) constant(name string, n *yaml.Node) any {
	if isEmpty(n) {
		r.wrong(n.Line, "%s: value is empty: write the constant, or null", name)
		return nil
	}
	return r.bson(name, n, maxLevels)
}

func (r *reader) bson(name string, n *yaml.Node, levels int) any {
	if levels == 0 {
		r.wrong(n.Line, "%s: the value has more than %d levels: MongoDB stores 100 in a document", name, maxLevels)
		return nil
	}
	switch n.Kind {
	case yaml.SequenceNode:
		list := bson.A{}
		for _, v := range n.Content {
			list = append(list, r.bson(name, v, levels-1))
		}
		return list
	case yaml.MappingNode:
		object := bson.D{}
		if len(n.Content) == 0 { // {} is a value
			return object
		}
		for k, v := range r.entries(n, name, "write names with values") {
			if strings.ContainsAny(k.Value, ".\x00") || strings.HasPrefix(k.Value, "$") || k.Value == "" {
				r.wrong(k.Line, "%s: the value has the name %s: names are not empty, "+
					"do not begin with $ and have no dot", name, Quote(k.Value))
			}
			object = append(object, bson.E{Key: k.Value, Value: r.bson(name, v, levels-1)})
		}
		return object
	case yaml.AliasNode:
		r.wrong(n.Line, "%s: the value has an alias (*%s), which is not followed: write it out", name, n.Value)
		return nil
	}
	return r.scalar(name, n)
}

func (r *reader) scalar(name string, n *yaml.Node) any {
	tags := []string{"!!null", "!!str", "!!bool", "!!int", "!!float", "!!timestamp"}
	var v any
	if slices.Contains(tags, n.ShortTag()) && n.Decode(&v) == nil {
		switch v := v.(type) {
		case nil, string, bool, float64, int64:
			return v
		case int:
			if math.MinInt32 <= v && v <= math.MaxInt32 {
				return int32(v)
			}
			return int64(v)
		case time.Time:
			return bson.NewDateTimeFromTime(v)
		}
	}
	r.wrong(n.Line, "%s: the value %s is of a kind that cannot be stored: write text, a number, true, false, null, "+
		"a date, a list or a map", name, Quote(n.Value))
	return nil
}

// Kind returns the type of the values that the field gets from Clerk or from the map; what is written if Clerk's user
// has none may be of another.
func (f Field) Kind() Kind {
	if s, ok := LookUp(f.From); ok {
		return s.Kind
	}
	switch f.Value.(type) {
	case string:
		return Text
	case bool:
		return Bool
	case int32, int64, float64:
		return Number
	case bson.DateTime:
		return Date
	}
	return Any
}
