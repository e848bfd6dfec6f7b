// The reference shipper for end-to-end tests: Filebeat's own root command with its default inputs and modules,
// and of x-pack's processors decode_cef. `cargo xtask e2e filebeat` builds it into the cache.
package main

import (
	"os"

	"github.com/elastic/beats/v7/filebeat/cmd"
	_ "github.com/elastic/beats/v7/filebeat/include"
	inputs "github.com/elastic/beats/v7/filebeat/input/default-inputs"
	_ "github.com/elastic/beats/v7/x-pack/filebeat/processors/decode_cef"
)

func main() {
	root := cmd.Filebeat(inputs.Init, cmd.FilebeatSettings())
	if root.Execute() != nil {
		os.Exit(1)
	}
}
