#!/usr/bin/env bash
# httpx (PyPI, with httpcore and h2) that uploads over HTTP/2, and a server that answers before it has read all: 413 with a body, and then
# RST_STREAM (NO_ERROR), so that the client stops.
#
# Guess before the first run: httpx returns the 413. RFC 9113, section 8.1 describes this order for just this case, and has clients not
# discard the answer because of the reset. It is what Envoy sends, too, when an answer is complete before its request.
# Seen with httpx 0.29.0, httpcore 1.0.9 and h2 4.4.1: httpx goes on waiting for a window on the stream that has been reset, for as long as
# its read timeout allows, and then raises ReadTimeout; the answer, which arrived whole, is not to be had. With a body that fits into the
# window it returns the 413. Node 20's http2 and undici 7.30.2, asked the same way, give the 413.
#
# Needs Node 20 or later, Python 3 and PyPI. Everything happens on loopback.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv env
env/bin/pip install --quiet "httpx[http2]==0.29.0" httpcore==1.0.9 h2==4.4.1

cat >node.mjs <<'JS'
import http2 from "node:http2";
const session = http2.connect(`http://127.0.0.1:${process.argv[2]}`);
const request = session.request({ ":method": "POST", ":path": "/" });
let status, body = "";
request.on("response", (head) => { status = head[":status"]; });
request.on("data", (piece) => { body += piece; });
request.on("error", (error) => { body = error.message; });
request.on("close", () => { console.log(`${status} ${body}`); process.exit(); });
request.end(Buffer.alloc(Number(process.argv[3])));
JS
cat >run.py <<'PY'
import socket, subprocess, threading
import h2.config, h2.connection, h2.events, h2.exceptions
import httpx

def serve(listener):
    while True:
        sock, _ = listener.accept()
        threading.Thread(target=answer, args=(sock,), daemon=True).start()

def answer(sock):
    sock.settimeout(20)
    http = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
    http.initiate_connection()
    sock.sendall(http.data_to_send())
    try:
        while piece := sock.recv(65536):
            for event in http.receive_data(piece):
                if isinstance(event, h2.events.RequestReceived):
                    http.send_headers(event.stream_id, [(":status", "413")])
                    http.send_data(event.stream_id, b"too large", end_stream=True)
                    try:
                        http.reset_stream(event.stream_id, error_code=0)
                    except h2.exceptions.StreamClosedError:
                        pass # the request was complete, too
            sock.sendall(http.data_to_send())
    except OSError:
        pass
    sock.close()

def by_httpx(port, size):
    with httpx.Client(http1=False, http2=True, trust_env=False, timeout=3) as client:
        try:
            answer = client.post(f"http://127.0.0.1:{port}/", content=bytes(size))
            return f"{answer.status_code} {answer.text}"
        except httpx.HTTPError as error:
            return type(error).__name__

def by_node(port, size):
    return subprocess.run(["node", "node.mjs", str(port), str(size)], capture_output=True, text=True, timeout=20).stdout.strip()

listener = socket.create_server(("127.0.0.1", 0))
threading.Thread(target=serve, args=(listener,), daemon=True).start()
for size in (1_000, 1_000_000):
    for name, ask in (("httpx", by_httpx), ("node", by_node)):
        print(f"{name}, {size} bytes: {ask(listener.getsockname()[1], size)}", flush=True)
PY
timeout 60 env/bin/python run.py | tee out
diff out - <<'SEEN'
httpx, 1000 bytes: 413 too large
node, 1000 bytes: 413 too large
httpx, 1000000 bytes: ReadTimeout
node, 1000000 bytes: 413 too large
SEEN
