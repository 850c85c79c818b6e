#!/usr/bin/env bash
# CEL, the language of conditions in Kubernetes' admission policies and in Envoy's RBAC, and six libraries that evaluate it: cel-go (Go
# module), cel-python and common-expression-language (PyPI), @bufbuild/cel, @marcbachmann/cel-js and cel-js (npm).
#
# Guess before the first run: they agree on expressions made of nothing but the language's own definition: true for each of the seven below.
# Seen with cel-go 0.32.0 and @bufbuild/cel 0.6.1: true, seven times. With cel-python 0.5.0: `string(true)` is `True`, and a whole number
# cannot be compared with 3.0. With common-expression-language 0.10.0: `string(duration('90s'))` is `1m30s`, `exists` fails over an entry that
# lacks the field, where CEL goes on to the one that has it, and there is neither `string(true)` nor an hour in another time zone. With
# @marcbachmann/cel-js 8.0.0: no offset as a time zone, and no `string` of a duration. With cel-js 0.8.2: `||` whose left side is true
# fails because of its right side, half of the whole number 3 is 1.5, `exists` fails as above, and `string` and times are missing.
# So a condition that was tried out with one of them may mean something else, or fail, where it is enforced.
#
# Needs Node 20 or later with npm, Go 1.25 or later with the module proxy, Python 3 and PyPI. No socket is opened.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv env
python3 -m venv other
env/bin/pip install --quiet cel-python==0.5.0
other/bin/pip install --quiet common-expression-language==0.10.0
echo '{ "private": true, "type": "module" }' >package.json
npm install --silent --no-audit --no-fund @bufbuild/cel@0.6.1 @marcbachmann/cel-js@8.0.0 cel-js@0.8.2 >npm.log

cat >asked.json <<'JSON'
{
    "expressions": [
        "method == 'GET' || headers['x-tenant'] == 'a'",
        "weight / 2 == 1",
        "weight == 3.0",
        "ports.exists(p, p.number == 443)",
        "string(true) == 'true'",
        "string(duration('90s')) == '90s'",
        "timestamp('2026-01-01T23:00:00Z').getHours('+02:00') == 1"
    ],
    "variables": { "method": "GET", "headers": { "x-env": "dev" }, "weight": 3, "ports": [{ "name": "http" }, { "number": 443 }] }
}
JSON
# Each prints one line: its name, and what it makes of each expression.
cat >celpython.py <<'PY'
import json, sys
import celpy, celpy.adapter
asked, outcomes = json.load(open("asked.json")), []
variables = {name: celpy.adapter.json_to_cel(value) for name, value in asked["variables"].items()}
for expression in asked["expressions"]:
    try:
        environment = celpy.Environment()
        outcomes.append(str(bool(environment.program(environment.compile(expression)).evaluate(variables))).lower())
    except celpy.CELEvalError as error:
        outcomes.append("error")
        print(error, file=sys.stderr)
print("cel-python:", *outcomes)
PY
cat >common.py <<'PY'
import json, sys
import cel
asked, outcomes = json.load(open("asked.json")), []
for expression in asked["expressions"]:
    try:
        outcomes.append(str(cel.evaluate(expression, asked["variables"])).lower())
    except Exception as error: # of several kinds, Python's KeyError among them
        outcomes.append("error")
        print(error, file=sys.stderr)
print("common-expression-language:", *outcomes)
PY
cat >run.mjs <<'JS'
import { readFileSync } from "node:fs";
import * as bufbuild from "@bufbuild/cel";
import * as marcbachmann from "@marcbachmann/cel-js";
import * as celJs from "cel-js";
const { expressions, variables } = JSON.parse(readFileSync("asked.json", "utf8"));
// CEL's whole numbers are BigInt to two of them; cel-js has only JavaScript's numbers.
const whole = JSON.parse(JSON.stringify(variables), (_, value) => (typeof value === "number" ? BigInt(value) : value));
const libraries = {
    "@bufbuild/cel": (expression) => bufbuild.plan(bufbuild.celEnv(), bufbuild.parse(expression))(whole),
    "@marcbachmann/cel-js": (expression) => marcbachmann.evaluate(expression, whole),
    "cel-js": (expression) => celJs.evaluate(expression, variables),
};
for (const [name, evaluate] of Object.entries(libraries)) {
    const outcomes = expressions.map((expression) => {
        try {
            const outcome = evaluate(expression);
            if (typeof outcome === "boolean") return outcome;
            console.error(outcome);
        } catch (error) {
            console.error(error.message);
        }
        return "error";
    });
    console.log(`${name}: ${outcomes.join(" ")}`);
}
JS
mkdir go
cat >go/go.mod <<'MOD'
module example/run

go 1.25.0

require cel.dev/cel-go v0.32.0
MOD
cat >go/main.go <<'GO'
package main

import (
	"encoding/json"
	"fmt"
	"os"

	"cel.dev/cel-go/cel"
)

func main() {
	var asked struct {
		Expressions []string
		Variables   map[string]any
	}
	text, err := os.ReadFile("../asked.json")
	if err == nil {
		err = json.Unmarshal(text, &asked)
	}
	if err != nil {
		panic(err)
	}
	// JSON has no whole numbers in Go.
	asked.Variables["weight"] = 3
	asked.Variables["ports"].([]any)[1].(map[string]any)["number"] = 443
	environment, err := cel.NewEnv(
		cel.Variable("method", cel.StringType), cel.Variable("headers", cel.MapType(cel.StringType, cel.StringType)),
		cel.Variable("weight", cel.DynType), cel.Variable("ports", cel.ListType(cel.MapType(cel.StringType, cel.DynType))))
	if err != nil {
		panic(err)
	}
	fmt.Print("cel-go:")
	for _, expression := range asked.Expressions {
		checked, issues := environment.Compile(expression)
		if issues.Err() != nil {
			panic(issues.Err())
		}
		program, err := environment.Program(checked)
		if err != nil {
			panic(err)
		}
		if outcome, _, err := program.Eval(asked.Variables); err != nil {
			fmt.Print(" error")
		} else {
			fmt.Print(" ", outcome.Value())
		}
	}
	fmt.Println()
}
GO
{
    (cd go && GOWORK=off GOFLAGS=-mod=mod go run .)
    env/bin/python celpython.py
    other/bin/python common.py
    node run.mjs
} 2>log | tee out || { cat log; exit 1; }
diff out - <<'SEEN'
cel-go: true true true true true true true
cel-python: true true error true false true true
common-expression-language: true true true error error false error
@bufbuild/cel: true true true true true true true
@marcbachmann/cel-js: true true true true true error error
cel-js: error false true error error error error
SEEN
