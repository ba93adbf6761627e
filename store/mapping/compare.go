package mapping

import (
	"bytes"
	"fmt"
	"math"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// odd is how a difference shows a value of the row that is not of the field's type.
const odd = "(missing, or of another type)"

// Differences returns the fields in which a row differs from the values.
func (f *Fields) Differences(row bson.Raw, values Values) []Difference {
	var all []Difference
	for i := range f.all {
		t := &f.all[i]
		if !t.compared && !t.strict {
			continue
		}
		was, there := lookup(row, t.keys)
		fits := !there || t.fits(was)
		want := values[i]
		switch isUnset := want == any(unset{}); {
		case !t.compared && fits, isUnset && (!there || !fits && !t.strict), !isUnset && there && equal(was, want):
			continue
		}
		d := Difference{Name: t.Path, Clerk: show(want)}
		switch {
		case !fits || !there && !t.optional:
			d.Row = odd
		case there:
			d.Row = showRaw(was)
		}
		all = append(all, d)
	}
	return all
}

// fits tells whether a value is of the field's type.
func (t *target) fits(v bson.RawValue) bool {
	switch {
	case v.Type == bson.TypeNull && t.Absent.Null, t.kind == Any:
		return true
	case t.kind == Bool:
		return v.Type == bson.TypeBoolean
	case t.kind == Date:
		return v.Type == bson.TypeDateTime
	}
	return v.Type == bson.TypeString
}

// equal tells whether a value of a row is the wanted one.
func equal(was bson.RawValue, want any) bool {
	switch want := want.(type) {
	case nil:
		return was.Type == bson.TypeNull
	case string:
		s, ok := was.StringValueOK()
		return ok && s == want
	case bool:
		b, ok := was.BooleanOK()
		return ok && b == want
	case bson.DateTime:
		at, ok := was.DateTimeOK()
		return ok && at == int64(want)
	}
	kind, value, err := bson.MarshalValue(want)
	return err == nil && same(was, bson.RawValue{Type: kind, Value: value})
}

// same tells whether two values are equal. Numbers of different types are, if they are the same number, because drivers
// of other languages change the type. So are objects whose fields are in another order.
func same(a, b bson.RawValue) bool {
	if n := number(a); n != nil {
		return n == number(b)
	}
	if a.Type != b.Type || a.Type != bson.TypeEmbeddedDocument && a.Type != bson.TypeArray {
		return a.Type == b.Type && bytes.Equal(a.Value, b.Value)
	}
	x, y := elements(a), elements(b)
	if len(x) != len(y) {
		return false
	}
	for key, v := range x {
		if w, there := y[key]; !there || !same(v, w) {
			return false
		}
	}
	return true
}

// number returns a number as an int64 if it is a whole number of 64 bits, or else as a float64; nil if it is neither.
func number(v bson.RawValue) any {
	if f, ok := v.DoubleOK(); ok && (f != math.Trunc(f) || math.Abs(f) >= 1<<63) {
		return f
	}
	if i, ok := v.AsInt64OK(); ok {
		return i
	}
	return nil
}

// elements returns the elements of an object, or of a list, whose keys are the places.
func elements(v bson.RawValue) map[string]bson.RawValue {
	list, _ := bson.Raw(v.Value).Elements() // of what is broken, those before the break
	all := make(map[string]bson.RawValue, len(list))
	for _, e := range list {
		all[e.Key()] = e.Value()
	}
	return all
}

// show returns a wanted value for a person.
func show(want any) string {
	if want == any(unset{}) {
		return ""
	}
	kind, value, err := bson.MarshalValue(want)
	if err != nil {
		return fmt.Sprint(want)
	}
	return showRaw(bson.RawValue{Type: kind, Value: value})
}

// showRaw returns a value of a row for a person.
func showRaw(v bson.RawValue) string {
	if s, ok := v.StringValueOK(); ok {
		return s
	}
	if at, ok := v.TimeOK(); ok {
		return fmt.Sprint(at.UTC())
	}
	return v.String()
}
