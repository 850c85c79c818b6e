#!/usr/bin/env bash
# WebSocket clients, and the close code that is meant for gateways: 1014 (Bad Gateway), with 1012 (Service Restart) and 1013 (Try Again
# Later) beside it.
#
# Guess before the first run: each client hands out each of the three; all are in IANA's registry of close codes, where RFC 6455, section
# 7.4.2, has them come from.
# Seen: gorilla/websocket 1.5.3 (Go module) and wsproto 1.3.2 (PyPI) hand out 1012 and 1013, and take 1014 for a fault of the peer: from
# gorilla comes an error without a code, "bad close code 1014", and from wsproto 1002 (Protocol Error). websockets 17.4 hands out 1014;
# aiohttp 3.14.5, coder/websocket 1.8.14, ws 8.23.0, undici 7.30.2 and the JDK 17, asked the same way, do so, too.
#
# Needs Go 1.24 or later with the module proxy, Python 3 and PyPI. Everything happens on loopback.
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
env/bin/pip install --quiet websockets==17.4 wsproto==1.3.2

cat >server.py <<'PY'
# Upgrades, closes with the code that the path names, and reads the client's own closing frame.
import base64, hashlib, socket
listener = socket.create_server(("127.0.0.1", 0))
listener.settimeout(120)
print(listener.getsockname()[1], flush=True)
while True:
    sock, _ = listener.accept()
    sock.settimeout(10)
    head = b""
    while b"\r\n\r\n" not in head:
        head += sock.recv(4096)
    fields = [line.split(b":", 1) for line in head.strip().split(b"\r\n")[1:]]
    key = next(value.strip() for name, value in fields if name.lower() == b"sec-websocket-key")
    accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
    code = int(head.split()[1][1:])
    sock.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " + accept + b"\r\n\r\n")
    sock.sendall(b"\x88\x05" + code.to_bytes(2, "big") + b"bye")
    try:
        sock.recv(4096)
    except OSError:
        pass
    sock.close()
PY
cat >client.py <<'PY'
import asyncio, socket, sys, websockets, wsproto, wsproto.events
port = sys.argv[1]
def by_wsproto(code):
    with socket.create_connection(("127.0.0.1", int(port)), timeout=10) as sock:
        client = wsproto.WSConnection(wsproto.ConnectionType.CLIENT)
        sock.sendall(client.send(wsproto.events.Request(host="app.example", target=f"/{code}")))
        while piece := sock.recv(4096):
            client.receive_data(piece)
            for event in client.events():
                if isinstance(event, wsproto.events.CloseConnection):
                    return f"{int(event.code)}, {event.reason}"
async def by_websockets(code):
    async with websockets.connect(f"ws://127.0.0.1:{port}/{code}", proxy=None) as client:
        try:
            await client.recv()
        except websockets.ConnectionClosed as error:
            return f"{error.rcvd.code}, {error.rcvd.reason}" if error.rcvd else "no code"
for code in (1012, 1013, 1014):
    print(f"wsproto, {code}: {by_wsproto(code)}")
    print(f"websockets, {code}: {asyncio.run(by_websockets(code))}")
PY
cat >go.mod <<'MOD'
module example/closed

go 1.24

require github.com/gorilla/websocket v1.5.3
MOD
cat >main.go <<'GO'
package main

import (
	"errors"
	"fmt"
	"os"

	gorilla "github.com/gorilla/websocket"
)

func byGorilla(address string) string {
	conn, _, err := gorilla.DefaultDialer.Dial(address, nil)
	if err != nil {
		return err.Error()
	}
	defer conn.Close()
	_, _, err = conn.ReadMessage()
	var closed *gorilla.CloseError
	if errors.As(err, &closed) {
		return fmt.Sprintf("%d, %s", closed.Code, closed.Text)
	}
	return err.Error()
}

func main() {
	for _, code := range []int{1012, 1013, 1014} {
		fmt.Printf("gorilla, %d: %s\n", code, byGorilla(fmt.Sprintf("ws://127.0.0.1:%s/%d", os.Args[1], code)))
	}
}
GO
GOFLAGS=-mod=mod GOWORK=off go build -o client . 2>go.log || { cat go.log; exit 1; }
python3 server.py >server.port &
pids+=($!)
until [ -s server.port ]; do sleep 0.1; done
{ ./client "$(cat server.port)"; env/bin/python client.py "$(cat server.port)"; } | tee out
diff out - <<'SEEN'
gorilla, 1012: 1012, bye
gorilla, 1013: 1013, bye
gorilla, 1014: websocket: bad close code 1014
wsproto, 1012: 1012, bye
websockets, 1012: 1012, bye
wsproto, 1013: 1013, bye
websockets, 1013: 1013, bye
wsproto, 1014: 1002, CLOSE with unknown reserved code
websockets, 1014: 1014, bye
SEEN
