package status

import (
	"fmt"

	"clerksync/activity"
)

// The size of the picture, in its own units. Each minute has a bar.
const (
	chartWidth  = 600
	chartHeight = 72
)

// bar is the bar of a minute: the webhooks that were taken, and on top of them those that were refused.
type bar struct {
	X, Width           int
	Taken, TakenAt     int // height, and where it begins from above
	Refused, RefusedAt int
}

// Chart returns the bars of the last hour.
func (o overview) Chart() (bars []bar) {
	minutes := o.Activity.Is.Minutes
	top, _ := most(minutes)
	for i, m := range minutes {
		b := bar{X: i * chartWidth / len(minutes), Width: chartWidth/len(minutes) - 2}
		b.Taken, b.Refused = height(m.Taken, top), height(m.Refused, top)
		b.TakenAt = chartHeight - b.Taken
		b.RefusedAt = b.TakenAt - b.Refused
		bars = append(bars, b)
	}
	return bars
}

// height returns how high n is if top is as high as the picture. What is there can be seen.
func height(n, top int) int {
	if n == 0 {
		return 0
	}
	return max(2, n*(chartHeight-2)/top) // the two parts of a bar may be rounded up
}

// most returns how many webhooks came in the minute with the most, and which minute that is.
func most(minutes []activity.Minute) (n, at int) {
	for i, m := range minutes {
		if m.Taken+m.Refused > n {
			n, at = m.Taken+m.Refused, i
		}
	}
	return n, at
}

// ChartText says in words what the picture shows.
func (o overview) ChartText() string {
	taken, refused, minutes := 0, 0, o.Activity.Is.Minutes
	for _, m := range minutes {
		taken, refused = taken+m.Taken, refused+m.Refused
	}
	if taken+refused == 0 {
		return "No webhook came in the last hour."
	}
	n, at := most(minutes)
	text := fmt.Sprintf("%s in the last hour, at most %s in a minute, at %s UTC", count(taken, "webhook", "webhooks"),
		number(n), minutes[at].Start.UTC().Format("15:04"))
	if refused > 0 {
		text += fmt.Sprintf("; %s more were refused", number(refused))
	}
	return text + "."
}
