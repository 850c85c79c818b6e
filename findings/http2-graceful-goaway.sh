#!/usr/bin/env bash
# Clients of HTTP/2 (PyPI: httpx, grpclib, grpcio; npm: undici; Node's own http2), and a server that drains: GOAWAY (NO_ERROR) with the
# highest stream id there is, while a request is in flight, and the answer 300 ms later on the same connection.
#
# Guess before the first run: each returns the answer, and opens a new connection for the next request. That is what this GOAWAY is for
# (RFC 9113, section 6.8), and how Envoy, grpc-go and others begin to drain.
# Seen with httpx 0.29.0 on h2 4.4.1, grpclib 0.4.8 on the same, and undici 7.30.2: the request in flight fails as soon as GOAWAY
# arrives: RemoteProtocolError, StreamTerminatedError ("Connection lost") and UND_ERR_SOCKET. The next one gets a new connection. The
# error is the same where the server has not begun (last stream 0); httpx alone has the number, in its text. So a caller cannot tell
# whether a POST may be repeated. grpcio 1.85.3, and Node 20's http2 with @grpc/grpc-js 1.14.7 and @connectrpc/connect-node 2.1.2 on top,
# return the answer. So draining without loss is not in a proxy's hands alone.
#
# Needs Node 20 or later with npm, Python 3 and PyPI. Everything happens on loopback.
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
env/bin/pip install --quiet "httpx[http2]==0.29.0" httpcore==1.0.9 h2==4.4.1 grpclib==0.4.8 grpcio==1.85.3
echo '{ "private": true, "type": "module" }' >package.json
npm install --silent --no-audit --no-fund undici@7.30.2 >npm.log

cat >server.py <<'PY'
# Drains each connection on its first request. The frame is written past h2, which would take the connection for closed after it.
import socket, threading, time
import h2.config, h2.connection, h2.events
from hyperframe.frame import GoAwayFrame

def serve(sock):
    sock.settimeout(20)
    http = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
    http.initiate_connection()
    sock.sendall(http.data_to_send())
    try:
        while piece := sock.recv(65536):
            for event in http.receive_data(piece):
                if not isinstance(event, h2.events.StreamEnded):
                    continue
                sock.sendall(GoAwayFrame(0, last_stream_id=2**31 - 1, error_code=0).serialize())
                time.sleep(0.3)
                http.send_headers(event.stream_id, [(":status", "200"), ("content-type", "application/grpc")])
                http.send_data(event.stream_id, bytes(5))
                http.send_headers(event.stream_id, [("grpc-status", "0")], end_stream=True)
            sock.sendall(http.data_to_send())
    except OSError:
        pass
    sock.close()

listener = socket.create_server(("127.0.0.1", 0))
listener.settimeout(100)
print(listener.getsockname()[1], flush=True)
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
PY
cat >client.py <<'PY'
import asyncio, sys
import grpc, grpclib.client, grpclib.exceptions, httpx
port = int(sys.argv[1])

class Bytes:
    # A message that is its own encoding.
    __content_subtype__ = "proto"
    def encode(self, message, _):
        return message
    def decode(self, data, _):
        return data

def by_httpx():
    with httpx.Client(http1=False, http2=True, trust_env=False, timeout=10) as client:
        try:
            answer = client.post(f"http://127.0.0.1:{port}/", content=b"x")
            return f"{answer.status_code}, {len(answer.content)} bytes"
        except httpx.HTTPError as error:
            return f"{type(error).__name__}, {error}"

def by_grpcio():
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            channel.unary_unary("/app.Echo/Say")(b"", timeout=10)
        except grpc.RpcError as error:
            return f"{error.code().name}, {error.details()}"
        return "OK"

async def by_grpclib():
    channel = grpclib.client.Channel("127.0.0.1", port, codec=Bytes())
    try:
        await grpclib.client.UnaryUnaryMethod(channel, "/app.Echo/Say", bytes, bytes)(b"", timeout=10)
    except grpclib.exceptions.StreamTerminatedError as error:
        return f"{type(error).__name__}, {error}"
    finally:
        channel.close()
    return "OK"

print(f"httpx: {by_httpx()}")
print(f"grpclib: {asyncio.run(by_grpclib())}")
print(f"grpcio: {by_grpcio()}")
PY
cat >client.mjs <<'JS'
import http2 from "node:http2";
import { Client } from "undici";
const origin = `http://127.0.0.1:${process.argv[2]}`;
const client = new Client(origin, { useH2c: true });
const byUndici = await client.request({ path: "/", method: "POST", body: "x" })
    .then(async (answer) => `${answer.statusCode}, ${(await answer.body.arrayBuffer()).byteLength} bytes`, (error) => `${error.code}, ${error.message}`);
console.log(`undici: ${byUndici}`);
const request = http2.connect(origin).request({ ":method": "POST", ":path": "/" });
let status, bytes = 0;
request.on("response", (head) => { status = head[":status"]; });
request.on("data", (piece) => { bytes += piece.length; });
request.on("error", (error) => { status = error.code; });
request.on("close", () => { console.log(`node: ${status}, ${bytes} bytes`); process.exit(); });
request.end("x");
JS
env/bin/python server.py >server.port &
pids+=($!)
until [ -s server.port ]; do sleep 0.1; done
{ timeout 60 env/bin/python client.py "$(cat server.port)"; timeout 60 node client.mjs "$(cat server.port)"; } | tee out
diff out - <<'SEEN'
httpx: RemoteProtocolError, <ConnectionTerminated error_code:0, last_stream_id:2147483647, additional_data:None>
grpclib: StreamTerminatedError, Connection lost
grpcio: OK
undici: UND_ERR_SOCKET, HTTP/2: "GOAWAY" frame received with code 0
node: 200, 5 bytes
SEEN
