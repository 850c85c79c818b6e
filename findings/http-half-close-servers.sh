#!/usr/bin/env bash
# Servers of HTTP/1.1 (PyPI: uvicorn, hypercorn, aiohttp, tornado; Node's and Go's own), and a client that sends a request, shuts its
# sending side down, and waits; the handler takes 300 ms.
#
# Guess before the first run: each sends its 200: the request is complete, and TCP's other half is open. `nc -N` and hand-made probes ask
# so, and something in between that carries each half by itself hands the FIN on as soon as it comes.
# Seen with uvicorn 0.55.0 (with h11 0.16.0 and with httptools 0.9.0), aiohttp 3.14.5, tornado 6.6.1 and Node 20: an end of stream, and not
# a byte of the answer: they take the client for gone. Hypercorn 0.18.0 and Go answer. Where the client keeps its side open, all answer.
#
# Needs Node 20 or later, Go 1.21 or later, Python 3 and PyPI. Everything happens on loopback.
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
env/bin/pip install --quiet uvicorn==0.55.0 h11==0.16.0 httptools==0.9.0 hypercorn==0.18.0 aiohttp==3.14.5 tornado==6.6.1

# Each listens on a free port, and prints it.
cat >app.py <<'PY'
import asyncio
async def app(scope, receive, send):
    if scope["type"] != "http":
        raise NotImplementedError
    await asyncio.sleep(0.3)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"6")]})
    await send({"type": "http.response.body", "body": b"answer"})
PY
cat >serve.py <<'PY'
import asyncio, socket, sys
from app import app
name = sys.argv[1]
listener = socket.create_server(("127.0.0.1", 0))
listener.setblocking(False)
print(listener.getsockname()[1], flush=True)

async def by_uvicorn(http):
    import uvicorn
    await uvicorn.Server(uvicorn.Config(app, http=http, lifespan="off", log_level="critical")).serve([listener])

async def by_hypercorn():
    import hypercorn.asyncio, hypercorn.config
    config = hypercorn.config.Config()
    config.bind = [f"fd://{listener.detach()}"]
    config.errorlog = None
    await hypercorn.asyncio.serve(app, config)

async def by_aiohttp():
    from aiohttp import web
    async def answer(_):
        await asyncio.sleep(0.3)
        return web.Response(text="answer")
    application = web.Application()
    application.router.add_get("/", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.SockSite(runner, listener).start()
    await asyncio.Event().wait()

async def by_tornado():
    import tornado.httpserver, tornado.web
    class Answer(tornado.web.RequestHandler):
        async def get(self):
            await asyncio.sleep(0.3)
            self.write("answer")
    tornado.httpserver.HTTPServer(tornado.web.Application([("/", Answer)])).add_sockets([listener])
    await asyncio.Event().wait()

servers = {
    "uvicorn-h11": lambda: by_uvicorn("h11"), "uvicorn-httptools": lambda: by_uvicorn("httptools"),
    "hypercorn": by_hypercorn, "aiohttp": by_aiohttp, "tornado": by_tornado,
}
asyncio.run(servers[name]())
PY
cat >serve.mjs <<'JS'
import http from "node:http";
const server = http.createServer((_, response) => setTimeout(() => response.end("answer"), 300));
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
JS
cat >serve.go <<'GO'
package main

import (
	"fmt"
	"net"
	"net/http"
	"time"
)

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	panic(http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		time.Sleep(300 * time.Millisecond)
		w.Write([]byte("answer"))
	})))
}
GO
GOWORK=off go build -o serve-go serve.go
cat >ask.py <<'PY'
import socket, sys
name, port = sys.argv[1], int(sys.argv[2])
def ask(closes):
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.settimeout(10)
        client.sendall(b"GET / HTTP/1.1\r\nhost: app.example\r\nconnection: close\r\n\r\n")
        if closes:
            client.shutdown(socket.SHUT_WR)
        got = b""
        while piece := client.recv(4096):
            got += piece
        return got.split(b"\r\n")[0].decode().split(" ")[1] if got else "nothing"
print(f"{name}: {ask(False)}, with half-close {ask(True)}")
PY
start() { # NAME COMMAND...
    local name=$1
    shift
    "$@" >"$name.port" 2>"$name.log" &
    pids+=($!)
    timeout 30 bash -c "until [ -s $name.port ]; do sleep 0.1; done"
    timeout 30 env/bin/python ask.py "$name" "$(head -1 "$name.port")"
}
{
    for name in uvicorn-h11 uvicorn-httptools hypercorn aiohttp tornado; do start $name env/bin/python serve.py $name; done
    start node node serve.mjs
    start go ./serve-go
} >out
cat out
diff out - <<'SEEN'
uvicorn-h11: 200, with half-close nothing
uvicorn-httptools: 200, with half-close nothing
hypercorn: 200, with half-close 200
aiohttp: 200, with half-close nothing
tornado: 200, with half-close nothing
node: 200, with half-close nothing
go: 200, with half-close 200
SEEN
