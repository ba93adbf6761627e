package types_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"clerksync/internal/testenv/npm"
	"clerksync/types"
)

// TestTypeScript: the strict compiler takes what is printed for each map, the model of mongoose too, and an app that
// uses both.
func TestTypeScript(t *testing.T) {
	t.Parallel()
	use, err := os.ReadFile(filepath.Join("testdata", "use.ts"))
	if err != nil {
		t.Fatal(err)
	}
	for _, version := range []string{"mongoose8", "mongoose9"} { // with TypeScript 5 and 7
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			dir := npm.Project(t, filepath.Join("testdata", version))
			write(t, filepath.Join(dir, "use.ts"), string(use))
			args := []string{
				"node_modules/typescript/bin/tsc", "--noEmit", "--strict", "--exactOptionalPropertyTypes",
				"--noUncheckedIndexedAccess", "--skipLibCheck", "--module", "nodenext", "--target", "es2022",
				"--types", "node", "use.ts",
			}
			for name, m := range maps() {
				if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
					t.Fatal(err)
				}
				printed := map[string]string{"user.ts": types.TypeScript(m), "model.ts": types.Mongoose(m)}
				for file, text := range printed {
					write(t, filepath.Join(dir, name, file), text)
					args = append(args, filepath.Join(name, file))
				}
			}
			cmd := exec.CommandContext(t.Context(), "node", args...)
			cmd.Dir = dir
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
}
