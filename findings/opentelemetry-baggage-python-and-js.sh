#!/usr/bin/env bash
# W3C `baggage` between OpenTelemetry for Python (PyPI: opentelemetry-api) and for JavaScript (npm: @opentelemetry/core).
#
# Guess before the first run: an entry that one of them writes is what the other reads, and an entry that only passes through keeps its
# value. W3C's Baggage has values percent-encoded, and `;` opens an entry's properties.
# Seen with opentelemetry-api 1.45.2 and @opentelemetry/core 2.12.1: Python writes a space as `+`, as forms do, and JavaScript reads a plus
# sign, so `two words` arrives as `two+words`. A plus sign that stands for itself, as the standard allows, is a space to Python. Properties become
# part of the value there, and whoever comes next reads `v;ttl=1` for `v`, even where Python only passes the entry on. Of two `baggage`
# fields Python reads the first alone. What JavaScript writes is read by both as it was meant.
#
# Needs Node 20 or later with npm, Python 3 and PyPI. No socket is opened.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv env
env/bin/pip install --quiet opentelemetry-api==1.45.2
echo '{ "private": true, "type": "module" }' >package.json
npm install --silent --no-audit --no-fund @opentelemetry/api@1.9.1 @opentelemetry/core@2.12.1 >npm.log

# Each is called with `write VALUE`, `read FIELD...` or `pass FIELD`, and prints the field or the value of the entry `key`.
cat >baggage.py <<'PY'
import sys
from opentelemetry import baggage
from opentelemetry.baggage.propagation import W3CBaggagePropagator
propagator = W3CBaggagePropagator()
what, *given = sys.argv[1:]
if what == "write":
    context = baggage.set_baggage("key", given[0])
else:
    context = propagator.extract({"baggage": given})
if what == "read":
    print(" and ".join(f"{key}: {value}" for key, value in baggage.get_all(context).items()))
else:
    carrier = {}
    propagator.inject(carrier, context)
    print(carrier["baggage"])
PY
cat >baggage.mjs <<'JS'
import { ROOT_CONTEXT, propagation, defaultTextMapGetter, defaultTextMapSetter } from "@opentelemetry/api";
import { W3CBaggagePropagator } from "@opentelemetry/core";
const propagator = new W3CBaggagePropagator();
const [what, ...given] = process.argv.slice(2);
const context = what === "write"
    ? propagation.setBaggage(ROOT_CONTEXT, propagation.createBaggage({ key: { value: given[0] } }))
    : propagator.extract(ROOT_CONTEXT, { baggage: given }, defaultTextMapGetter);
if (what === "read") {
    console.log(propagation.getBaggage(context).getAllEntries().map(([key, { value }]) => `${key}: ${value}`).join(" and "));
} else {
    const carrier = {};
    propagator.inject(context, carrier, defaultTextMapSetter);
    console.log(carrier.baggage);
}
JS
python() { env/bin/python baggage.py "$@"; }
js() { node baggage.mjs "$@"; }
{
    for value in "two words" "a+b"; do
        field=$(python write "$value")
        echo "'$value' from Python is $field; in JavaScript $(js read "$field")"
        field=$(js write "$value")
        echo "'$value' from JavaScript is $field; in Python $(python read "$field")"
    done
    for field in "key=a+b" "key=v;ttl=1"; do
        for way in python js; do
            passed=$($way pass "$field")
            echo "$field in $way is $($way read "$field"), and goes on as $passed; behind it, in JavaScript, $(js read "$passed")"
        done
    done
    for way in python js; do echo "two fields, $way: $($way read one=1 two=2)"; done
} | tee out
diff out - <<'SEEN'
'two words' from Python is key=two+words; in JavaScript key: two+words
'two words' from JavaScript is key=two%20words; in Python key: two words
'a+b' from Python is key=a%2Bb; in JavaScript key: a+b
'a+b' from JavaScript is key=a%2Bb; in Python key: a+b
key=a+b in python is key: a b, and goes on as key=a+b; behind it, in JavaScript, key: a+b
key=a+b in js is key: a+b, and goes on as key=a%2Bb; behind it, in JavaScript, key: a+b
key=v;ttl=1 in python is key: v;ttl=1, and goes on as key=v%3Bttl%3D1; behind it, in JavaScript, key: v;ttl=1
key=v;ttl=1 in js is key: v, and goes on as key=v;ttl=1; behind it, in JavaScript, key: v
two fields, python: one: 1
two fields, js: one: 1 and two: 2
SEEN
