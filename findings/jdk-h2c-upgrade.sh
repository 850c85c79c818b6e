#!/usr/bin/env bash
# The JDK's `java.net.http.HttpClient` as it comes, over http://, and servers of HTTP/1.1 in Node (npm: ws) and Python (PyPI: uvicorn).
#
# Guess before the first run: each answers by HTTP/1.1. The client offers HTTP/2 with `Upgrade: h2c` on its first request, and a server
# that does not know it ignores the field and serves the request (RFC 9110, section 7.8).
# Seen with JDK 17: Node's own server alone does so. As soon as ws 8.23.1 has a WebSocketServer attached to it, the same GET gets 400,
# "Invalid Upgrade header", from ws, and the application is not asked, even where ws listens on another path. uvicorn 0.55.0 with
# httptools 0.9.0 serves a POST, but its application reads an empty body; with h11 0.16.0 it reads all of it. Over https:// the JDK asks
# by ALPN, so this shows up where encryption moves from the application into a mesh; `version(HTTP_1_1)` in the client avoids it.
#
# Needs JDK 11 or later, Node 20 or later with npm, Python 3 and PyPI. Everything happens on loopback.
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
env/bin/pip install --quiet uvicorn==0.55.0 h11==0.16.0 httptools==0.9.0
echo '{ "private": true, "type": "module" }' >package.json
npm install --silent --no-audit --no-fund ws@8.23.1 >npm.log

cat >serve.mjs <<'JS'
import http from "node:http";
import { WebSocketServer } from "ws";
const server = http.createServer((request, response) => {
    let length = 0;
    request.on("data", (piece) => { length += piece.length; });
    request.on("end", () => response.end(`read ${length}`));
});
if (process.argv[2] === "ws") new WebSocketServer({ server, path: "/socket" });
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
JS
cat >serve.py <<'PY'
import socket, sys
import uvicorn
async def app(scope, receive, send):
    length, more = 0, True
    while more:
        message = await receive()
        length, more = length + len(message.get("body", b"")), message.get("more_body", False)
    body = f"read {length}".encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", str(len(body)).encode())]})
    await send({"type": "http.response.body", "body": body})
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
uvicorn.Server(uvicorn.Config(app, http=sys.argv[1], lifespan="off", log_level="critical")).run([listener])
PY
cat >Ask.java <<'JAVA'
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.time.Duration;

public class Ask {
    static String ask(HttpClient.Version version, String port, HttpRequest.Builder request) throws Exception {
        var sent = request.uri(URI.create("http://127.0.0.1:" + port + "/")).timeout(Duration.ofSeconds(10)).version(version).build();
        var answer = HttpClient.newHttpClient().send(sent, HttpResponse.BodyHandlers.ofString());
        return answer.statusCode() + " " + answer.body();
    }
    public static void main(String[] given) throws Exception {
        for (int i = 0; i < given.length; i += 3) {
            var post = given[i + 1].equals("POST");
            for (var version : new HttpClient.Version[] { HttpClient.Version.HTTP_2, HttpClient.Version.HTTP_1_1 }) {
                var request = HttpRequest.newBuilder();
                if (post) request.POST(HttpRequest.BodyPublishers.ofByteArray(new byte[5000]));
                System.out.println(given[i] + ", " + given[i + 1] + ", " + version + ": " + ask(version, given[i + 2], request));
            }
        }
        System.exit(0);
    }
}
JAVA
asked=()
start() { # NAME METHOD COMMAND...
    local name=$1 method=$2
    shift 2
    "$@" >"$name.port" 2>"$name.log" &
    pids+=($!)
    timeout 30 bash -c "until [ -s $name.port ]; do sleep 0.1; done"
    asked+=("$name" "$method" "$(head -1 "$name.port")")
}
start node GET node serve.mjs
start node-ws GET node serve.mjs ws
start uvicorn-h11 POST env/bin/python serve.py h11
start uvicorn-httptools POST env/bin/python serve.py httptools
timeout 60 java Ask.java "${asked[@]}" | tee out
diff out - <<'SEEN'
node, GET, HTTP_2: 200 read 0
node, GET, HTTP_1_1: 200 read 0
node-ws, GET, HTTP_2: 400 Invalid Upgrade header
node-ws, GET, HTTP_1_1: 200 read 0
uvicorn-h11, POST, HTTP_2: 200 read 5000
uvicorn-h11, POST, HTTP_1_1: 200 read 5000
uvicorn-httptools, POST, HTTP_2: 200 read 0
uvicorn-httptools, POST, HTTP_1_1: 200 read 5000
SEEN
