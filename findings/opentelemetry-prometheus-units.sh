#!/usr/bin/env bash
# The same instruments of OpenTelemetry on a Prometheus page, from Python (PyPI: opentelemetry-exporter-prometheus) and from JavaScript
# (npm: @opentelemetry/exporter-prometheus).
#
# Guess before the first run: one name for each instrument in both: OpenTelemetry's rules for Prometheus append the unit, so that
# `http.server.request.duration` in `s` becomes `http_server_request_duration_seconds`.
# Seen with 0.66b2 and 0.223.0: Python appends the unit. JavaScript does not; it writes `# UNIT` lines instead, which are comments in the
# text format that it serves. A service that changes its language falls out of every dashboard and alert, and a rule that covers both has
# to name each metric twice. A counter's `_total`, and units in braces, are treated alike.
#
# Needs Node 20 or later with npm, Python 3 and PyPI. No socket is opened.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv env
env/bin/pip install --quiet opentelemetry-sdk==1.45.2 opentelemetry-exporter-prometheus==0.66b2 prometheus_client==0.26.0
echo '{ "private": true, "type": "module" }' >package.json
npm install --silent --no-audit --no-fund @opentelemetry/api@1.9.1 @opentelemetry/sdk-metrics@2.12.1 @opentelemetry/exporter-prometheus@0.223.0 >npm.log

cat >page.py <<'PY'
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
import prometheus_client
meter = MeterProvider([PrometheusMetricReader()]).get_meter("app")
meter.create_histogram("http.server.request.duration", unit="s").record(0.2)
meter.create_counter("sent", unit="By").add(3)
meter.create_up_down_counter("active", unit="{request}").add(1)
print(prometheus_client.generate_latest().decode())
PY
cat >page.mjs <<'JS'
import { PrometheusExporter, PrometheusSerializer } from "@opentelemetry/exporter-prometheus";
import { MeterProvider } from "@opentelemetry/sdk-metrics";
const exporter = new PrometheusExporter({ preventServerStart: true });
const meter = new MeterProvider({ readers: [exporter] }).getMeter("app");
meter.createHistogram("http.server.request.duration", { unit: "s" }).record(0.2);
meter.createCounter("sent", { unit: "By" }).add(3);
meter.createUpDownCounter("active", { unit: "{request}" }).add(1);
console.log(new PrometheusSerializer().serialize((await exporter.collect()).resourceMetrics));
JS
env/bin/python page.py >python.page
node page.mjs >javascript.page
for language in python javascript; do
    echo "$language:"
    grep -E '^# (TYPE|UNIT) (http|sent|active)' $language.page
done | tee out
diff out - <<'SEEN'
python:
# TYPE http_server_request_duration_seconds histogram
# TYPE sent_bytes_total counter
# TYPE active gauge
javascript:
# UNIT http_server_request_duration s
# TYPE http_server_request_duration histogram
# UNIT sent_total By
# TYPE sent_total counter
# UNIT active {request}
# TYPE active gauge
SEEN
