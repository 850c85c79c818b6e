#!/usr/bin/env bash
# One manifest, read by Kubernetes' client for Node (npm: @kubernetes/client-node), by PyYAML (PyPI), which the client for Python reads
# files with, and by sigs.k8s.io/yaml (Go module), which kubectl reads them with.
#
# Guess before the first run: `defaultMode: 0400` of a secret's volume is 256 to each, the octal number that Kubernetes' documentation
# writes there; a label `version: 2024-01-01` without quotes is that text.
# Seen with client-node 1.4.0: `loadYaml` makes 400 of 0400 (YAML 1.2 writes octal as 0o400, and this client goes by it). That is a
# valid mode, 0620: the group may write, and the owner is not alone with the key any more. The label becomes
# "2024-01-01T00:00:00.000Z", which is no valid label. sigs.k8s.io/yaml 1.6.0 is as guessed; PyYAML 6.0.4 reads 256, and a date.
#
# Needs Node 20 or later with npm, Go 1.22 or later with the module proxy, Python 3 and PyPI. No socket is opened.
set -euo pipefail
dir=$(mktemp -d)
trap 'chmod -R u+w "$dir"; rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv env
env/bin/pip install --quiet PyYAML==6.0.4
echo '{ "private": true, "type": "module" }' >package.json
npm install --silent --no-audit --no-fund @kubernetes/client-node@1.4.0 >npm.log

cat >pod.yaml <<'YAML'
apiVersion: v1
kind: Pod
metadata:
  name: app
  labels:
    version: 2024-01-01
spec:
  containers: [{ name: app, image: app.example/app }]
  volumes:
  - name: key
    secret: { secretName: key, defaultMode: 0400 }
YAML
cat >read.mjs <<'JS'
import { readFileSync } from "node:fs";
import { loadYaml } from "@kubernetes/client-node";
const pod = loadYaml(readFileSync("pod.yaml", "utf8"));
console.log(`client-node: ${pod.spec.volumes[0].secret.defaultMode}, ${JSON.stringify(pod.metadata.labels.version)}`);
JS
cat >read.py <<'PY'
import yaml
pod = yaml.safe_load(open("pod.yaml"))
print(f"PyYAML: {pod['spec']['volumes'][0]['secret']['defaultMode']}, {pod['metadata']['labels']['version']!r}")
PY
mkdir go
cat >go/go.mod <<'MOD'
module example/read

go 1.22

require sigs.k8s.io/yaml v1.6.0
MOD
cat >go/main.go <<'GO'
package main

import (
	"fmt"
	"os"

	"sigs.k8s.io/yaml"
)

type pod struct {
	Metadata struct {
		Labels map[string]string `json:"labels"`
	} `json:"metadata"`
	Spec struct {
		Volumes []struct {
			Secret struct {
				DefaultMode int32 `json:"defaultMode"`
			} `json:"secret"`
		} `json:"volumes"`
	} `json:"spec"`
}

func main() {
	text, err := os.ReadFile("../pod.yaml")
	if err != nil {
		panic(err)
	}
	var read pod
	if err := yaml.Unmarshal(text, &read); err != nil {
		panic(err)
	}
	fmt.Printf("sigs.k8s.io/yaml: %d, %q\n", read.Spec.Volumes[0].Secret.DefaultMode, read.Metadata.Labels["version"])
}
GO
{
    node read.mjs
    env/bin/python read.py
    (cd go && GOWORK=off GOFLAGS=-mod=mod go run .)
} 2>log | tee out
diff out - <<'SEEN'
client-node: 400, "2024-01-01T00:00:00.000Z"
PyYAML: 256, datetime.date(2024, 1, 1)
sigs.k8s.io/yaml: 256, "2024-01-01"
SEEN
