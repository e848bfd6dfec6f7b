// Filebeat 9 as a reference for end-to-end tests: Filebeat's own root command with its default inputs, nothing added.
// `cargo xtask e2e differential --filebeat 9` builds it into the cache.
package main

import (
	"os"
	_ "time/tzdata"

	"github.com/elastic/beats/v7/filebeat/cmd"
	_ "github.com/elastic/beats/v7/filebeat/include"
	inputs "github.com/elastic/beats/v7/filebeat/input/default-inputs"
)

func main() {
	if cmd.Filebeat(inputs.Init, cmd.FilebeatSettings("")).Execute() != nil {
		os.Exit(1)
	}
}
