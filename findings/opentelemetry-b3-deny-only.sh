#!/usr/bin/env bash
# B3 propagation in OpenTelemetry for Python (PyPI: opentelemetry-propagator-b3) and for JavaScript (npm: @opentelemetry/propagator-b3), and
# a caller that hands on nothing but the decision not to trace: `b3: 0`, or `x-b3-sampled: 0` alone.
#
# Guess before the first run: the decision holds. B3 has this form so that a proxy in front can switch tracing off for a request; a span
# that begins below it is not sampled, and the next service is told 0, too.
# Seen with 1.45.1 (opentelemetry-sdk 1.45.2) and 2.12.0 (sdk-trace-base 2.12.1), samplers left as they are (all roots, or what the
# parent says): there is no parent without ids, so each begins a new trace, samples it, and tells the next service 1. With ids beside
# it the 0 holds in both.
#
# Needs Node 20 or later with npm, Python 3 and PyPI. No socket is opened.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv env
env/bin/pip install --quiet opentelemetry-sdk==1.45.2 opentelemetry-propagator-b3==1.45.1
echo '{ "private": true, "type": "module" }' >package.json
npm install --silent --no-audit --no-fund @opentelemetry/api@1.9.1 @opentelemetry/core@2.12.1 @opentelemetry/sdk-trace-base@2.12.1 @opentelemetry/propagator-b3@2.12.0 >npm.log

cat >asked.json <<'JSON'
[{ "b3": "0" }, { "x-b3-sampled": "0" }, { "b3": "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0" }]
JSON
cat >run.py <<'PY'
import json
from opentelemetry import trace
from opentelemetry.propagators.b3 import B3MultiFormat, B3SingleFormat
from opentelemetry.sdk.trace import TracerProvider
tracer = TracerProvider().get_tracer("app")
for asked in json.load(open("asked.json")):
    propagator, told = (B3SingleFormat() if "b3" in asked else B3MultiFormat()), {}
    span = tracer.start_span("work", propagator.extract(asked))
    propagator.inject(told, trace.set_span_in_context(span))
    print(f"Python: {next(iter(asked))} {next(iter(asked.values()))[-1]} goes on as", told.get("x-b3-sampled") or told["b3"].split("-")[2])
PY
cat >run.mjs <<'JS'
import { readFileSync } from "node:fs";
import { ROOT_CONTEXT, defaultTextMapGetter, defaultTextMapSetter, trace } from "@opentelemetry/api";
import { B3InjectEncoding, B3Propagator } from "@opentelemetry/propagator-b3";
import { BasicTracerProvider } from "@opentelemetry/sdk-trace-base";
const tracer = new BasicTracerProvider().getTracer("app");
for (const asked of JSON.parse(readFileSync("asked.json", "utf8"))) {
    const [name, value] = Object.entries(asked)[0];
    const propagator = new B3Propagator({ injectEncoding: name === "b3" ? B3InjectEncoding.SINGLE_HEADER : B3InjectEncoding.MULTI_HEADER });
    const context = propagator.extract(ROOT_CONTEXT, asked, defaultTextMapGetter);
    const told = {};
    propagator.inject(trace.setSpan(context, tracer.startSpan("work", {}, context)), told, defaultTextMapSetter);
    console.log(`JavaScript: ${name} ${value.at(-1)} goes on as ${told["x-b3-sampled"] ?? told.b3.split("-")[2]}`);
}
JS
{ env/bin/python run.py; node run.mjs; } | tee out
diff out - <<'SEEN'
Python: b3 0 goes on as 1
Python: x-b3-sampled 0 goes on as 1
Python: b3 0 goes on as 0
JavaScript: b3 0 goes on as 1
JavaScript: x-b3-sampled 0 goes on as 1
JavaScript: b3 0 goes on as 0
SEEN
