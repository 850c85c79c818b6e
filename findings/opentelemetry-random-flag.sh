#!/usr/bin/env bash
# W3C Trace Context Level 2 and its second flag, which says that a trace's id is random (`traceparent` ...-03, or ...-02 if not sampled), in
# OpenTelemetry for Python (PyPI: opentelemetry-sdk), JavaScript (npm: @opentelemetry/sdk-trace-base) and Go (modules: otel, otel/sdk),
# samplers left as they are.
#
# Guess before the first run: each hands the flag on as it came, whether it begins a span of its own or not: it is about the id, and the id
# stays the same.
# Seen with 1.45.2, 2.12.1 and 1.47.0: Python and Go do. JavaScript does where it only passes the request on; as soon as it begins a span,
# 03 goes on as 01, and 02 as 00. Nothing behind such a service may rely on the id any more, as samplers and stores that go by its last seven
# bytes do, though every span has that same id. Where a trace begins Python alone says that the id is random: 03; the ids of the two others
# are so, too.
#
# Needs Node 20 or later with npm, Go 1.25 or later with the module proxy, Python 3 and PyPI. No socket is opened.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv env
env/bin/pip install --quiet opentelemetry-sdk==1.45.2
echo '{ "private": true, "type": "module" }' >package.json
npm install --silent --no-audit --no-fund @opentelemetry/api@1.9.1 @opentelemetry/core@2.12.1 @opentelemetry/sdk-trace-base@2.12.1 >npm.log

# Each is called with fields `traceparent`, and prints the flags that go on with a span of its own, without one, and with a trace that begins.
cat >run.py <<'PY'
import sys
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
tracer, propagator = TracerProvider().get_tracer("app"), TraceContextTextMapPropagator()
def flags(context):
    told = {}
    propagator.inject(told, context)
    return told["traceparent"][-2:]
for parent in sys.argv[1:]:
    context = propagator.extract({"traceparent": parent})
    print(f"Python: {parent[-2:]} goes on as {flags(trace.set_span_in_context(tracer.start_span('work', context)))}, passed on as {flags(context)}")
print("Python: begins with", flags(trace.set_span_in_context(tracer.start_span("work"))))
PY
cat >run.mjs <<'JS'
import { ROOT_CONTEXT, defaultTextMapGetter, defaultTextMapSetter, trace } from "@opentelemetry/api";
import { W3CTraceContextPropagator } from "@opentelemetry/core";
import { BasicTracerProvider } from "@opentelemetry/sdk-trace-base";
const tracer = new BasicTracerProvider().getTracer("app"), propagator = new W3CTraceContextPropagator();
const flags = (context) => {
    const told = {};
    propagator.inject(context, told, defaultTextMapSetter);
    return told.traceparent.slice(-2);
};
const begin = (context) => trace.setSpan(context, tracer.startSpan("work", {}, context));
for (const parent of process.argv.slice(2)) {
    const context = propagator.extract(ROOT_CONTEXT, { traceparent: parent }, defaultTextMapGetter);
    console.log(`JavaScript: ${parent.slice(-2)} goes on as ${flags(begin(context))}, passed on as ${flags(context)}`);
}
console.log(`JavaScript: begins with ${flags(begin(ROOT_CONTEXT))}`);
JS
mkdir go
cat >go/go.mod <<'MOD'
module example/run

go 1.25.0

require (
	go.opentelemetry.io/otel v1.47.0
	go.opentelemetry.io/otel/sdk v1.47.0
)
MOD
cat >go/main.go <<'GO'
package main

import (
	"context"
	"fmt"
	"os"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/trace"
)

func flags(context context.Context) string {
	told := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(context, told)
	return told["traceparent"][53:]
}

func main() {
	tracer := trace.NewTracerProvider().Tracer("app")
	for _, parent := range os.Args[1:] {
		context := propagation.TraceContext{}.Extract(context.Background(), propagation.MapCarrier{"traceparent": parent})
		begun, _ := tracer.Start(context, "work")
		fmt.Printf("Go: %s goes on as %s, passed on as %s\n", parent[53:], flags(begun), flags(context))
	}
	begun, _ := tracer.Start(context.Background(), "work")
	fmt.Println("Go: begins with", flags(begun))
}
GO
parents=(00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0{3,2,1})
{
    env/bin/python run.py "${parents[@]}"
    node run.mjs "${parents[@]}"
    (cd go && GOWORK=off GOFLAGS=-mod=mod go run . "${parents[@]}")
} 2>log | tee out || { cat log; exit 1; }
diff out - <<'SEEN'
Python: 03 goes on as 03, passed on as 03
Python: 02 goes on as 02, passed on as 02
Python: 01 goes on as 01, passed on as 01
Python: begins with 03
JavaScript: 03 goes on as 01, passed on as 03
JavaScript: 02 goes on as 00, passed on as 02
JavaScript: 01 goes on as 01, passed on as 01
JavaScript: begins with 01
Go: 03 goes on as 03, passed on as 03
Go: 02 goes on as 02, passed on as 02
Go: 01 goes on as 01, passed on as 01
Go: begins with 01
SEEN
