// Command gitea is Gitea as its own main starts it, with SQLite: an upstream for the story in
// e2e/tests/upstream_gitea.rs. MIT: built and run by tests alone, never shipped.
package main

import (
	"os"

	"code.gitea.io/gitea/cmd"
	"code.gitea.io/gitea/modules/log"
)

func main() {
	ended := cmd.RunMainApp(cmd.NewMainApp(cmd.AppVersion{}), os.Args...)
	log.GetManager().Close() // what it said is written before it ends
	if ended != nil {
		os.Exit(1)
	}
}
