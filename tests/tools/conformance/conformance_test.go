// Package conformance is the Gateway API's own conformance suite, built as a test program that `cargo xtask conformance`
// runs on a test cluster. The suite itself stays where it is, in its module.
package conformance

import (
	"testing"

	"sigs.k8s.io/gateway-api/conformance"
)

// TestConformance runs the suite as its flags say.
func TestConformance(t *testing.T) { conformance.RunConformance(t) }
