// Command coredns is CoreDNS with the plug-ins that a test cluster needs, and no other: cluster names from the API
// server, a cache, and the two health pages that the Deployment's probes ask for.
package main

import (
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"

	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/forward"
	_ "github.com/coredns/coredns/plugin/health"
	_ "github.com/coredns/coredns/plugin/hosts"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/log"
	_ "github.com/coredns/coredns/plugin/loop"
	_ "github.com/coredns/coredns/plugin/ready"
	_ "github.com/coredns/coredns/plugin/reload"
	_ "github.com/coredns/coredns/plugin/whoami"
)

func main() {
	// A query passes the plug-ins in this order, which is that of CoreDNS's own plugin.cfg.
	dnsserver.Directives = []string{
		"bind", "reload", "health", "ready", "errors", "log", "cache",
		"hosts", "kubernetes", "loop", "forward", "whoami",
	}
	coremain.Run()
}
