package e2e_test

import (
	"context"
	"os/exec"
	"regexp"
	"testing"

	"clerksync/internal/child"
	"clerksync/internal/testenv/browser"
)

// TestStormInBrowser: a newcomer starts 'clerksync dev', opens its page and presses the button for a storm. A hundred
// events, each twice and in random order, go through a real Inngest, and the rows are right in the end.
func TestStormInBrowser(t *testing.T) {
	t.Parallel()
	endToEnd(t)
	b := browser.Start(t)
	out := &logFile{}
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), programs.clerksync, "dev")
	cmd.Dir, cmd.Stdout, cmd.Stderr = t.TempDir(), out, out
	cmd.Env = []string{
		"PATH=/usr/bin:/bin", "HOME=" + t.TempDir(), "INNGEST_CLI=" + programs.inngest.Path, "EMBEDDED_PORT=0",
	}
	dev, err := child.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := dev.Stop(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Log(out)
		}
	})
	var site string
	until(t, "dev says where its page is", patience, func() bool {
		if m := regexp.MustCompile(`(http://127\.0\.0\.1:\d+)/status`).FindStringSubmatch(out.String()); m != nil {
			site = m[1]
		}
		return site != ""
	})
	tab := b.Open(t, site, browser.Look{})
	tab.Go("/status")
	tab.Until("document.getElementById('live')?.textContent === 'Live.'")
	tab.Click("#do-storm")
	tab.UntilText("#said", "Sent")
	tab.UntilText("#users", "\\b5 here") // five of the ten are deleted in the end
	tab.UntilText("#waiting", "\\b0$")
	tab.UntilText("#headline", "^It works$")
	if rows := tab.Text("#rows"); regexp.MustCompile(`Storm [1-9] of 10`).MatchString(rows) {
		t.Errorf("a row has not its newest change:\n%s", rows)
	}
}
