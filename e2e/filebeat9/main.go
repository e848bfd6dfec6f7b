// Filebeat 9 as a reference for end-to-end tests: Filebeat's own root command with its default inputs, and of x-pack's
// processors decode_cef. `cargo xtask e2e differential --filebeat 9` builds it into the cache.
package main

import (
	"os"
	_ "time/tzdata"

	"github.com/elastic/beats/v7/filebeat/cmd"
	_ "github.com/elastic/beats/v7/filebeat/include"
	inputs "github.com/elastic/beats/v7/filebeat/input/default-inputs"
	"github.com/elastic/beats/v7/x-pack/filebeat/processors/decode_cef"
)

func main() {
	decode_cef.InitializeModule()
	if cmd.Filebeat(inputs.Init, cmd.FilebeatSettings("")).Execute() != nil {
		os.Exit(1)
	}
}
