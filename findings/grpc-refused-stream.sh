#!/usr/bin/env bash
# Clients of gRPC (PyPI: grpcio, grpclib; npm: @grpc/grpc-js, @connectrpc/connect-node; Go module: grpc-go) without a policy for retries, and
# a server that has not looked at a call: it refuses the stream (RST_STREAM, REFUSED_STREAM), or drains with GOAWAY (NO_ERROR, last stream 0).
#
# Guess before the first run: grpcio, grpc-js and grpc-go ask once more by themselves, and the call is OK, in both cases: nothing has been
# processed (RFC 9113, section 8.7), and gRPC's proposal A6 has clients repeat such calls "transparently". Of a refused stream grpclib and
# connect-node say UNAVAILABLE; for GOAWAY there was no guess about them.
# Seen with grpc-js 1.14.7 and grpc-go 1.85.0: as guessed. grpcio 1.85.3 asks again after GOAWAY alone; a refused stream ends the call as
# UNAVAILABLE, and with a policy for retries it counts as an attempt. connect-node 2.3.0 makes INTERNAL of both, which policies take for a
# fault that is not to be asked about again; grpclib 0.4.9 raises an error without a gRPC status for both. So a proxy that refuses a
# stream over its limit, the gentlest refusal that HTTP/2 has, is not noticed by some callers and is a hard error to others.
#
# Needs Node 20 or later with npm, Go 1.25 or later with the module proxy, Python 3 and PyPI. Everything happens on loopback.
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
env/bin/pip install --quiet h2==4.4.1 grpclib==0.4.9 grpcio==1.85.3
echo '{ "private": true, "type": "module" }' >package.json
npm install --silent --no-audit --no-fund @bufbuild/protobuf@2.10.1 @connectrpc/connect@2.3.0 @connectrpc/connect-node@2.3.0 @grpc/grpc-js@1.14.7 >npm.log

cat >server.py <<'PY'
# Does not look at the first call of each path, and answers the others with an empty message.
import socket, threading
import h2.config, h2.connection, h2.events
from hyperframe.frame import GoAwayFrame
seen = set()

def serve(sock):
    sock.settimeout(30)
    http, paths = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8")), {}
    http.initiate_connection()
    sock.sendall(http.data_to_send())
    try:
        while piece := sock.recv(65536):
            for event in http.receive_data(piece):
                if isinstance(event, h2.events.RequestReceived):
                    paths[event.stream_id] = dict(event.headers)[":path"]
                if not isinstance(event, h2.events.StreamEnded):
                    continue
                path = paths[event.stream_id]
                if path in seen:
                    http.send_headers(event.stream_id, [(":status", "200"), ("content-type", "application/grpc")])
                    http.send_data(event.stream_id, bytes(5))
                    http.send_headers(event.stream_id, [("grpc-status", "0")], end_stream=True)
                elif "Refuse" in path:
                    http.reset_stream(event.stream_id, 7)
                else:
                    # Past h2, which would take the connection for closed after it.
                    sock.sendall(http.data_to_send() + GoAwayFrame(0, last_stream_id=0, error_code=0).serialize())
                    seen.add(path)
                    sock.shutdown(socket.SHUT_WR)
                    sock.close()
                    return
                seen.add(path)
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
import grpc, grpclib.client
port = int(sys.argv[1])

class Bytes:
    # A message that is its own encoding.
    __content_subtype__ = "proto"
    def encode(self, message, _):
        return message
    def decode(self, data, _):
        return data

def by_grpcio(name):
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1)]) as channel:
        try:
            channel.unary_unary(f"/of.grpcio/{name}")(b"", timeout=10)
        except grpc.RpcError as error:
            return f"{error.code().name}, {error.details()}"
        return "OK"

async def by_grpclib(name):
    channel = grpclib.client.Channel("127.0.0.1", port, codec=Bytes())
    try:
        await grpclib.client.UnaryUnaryMethod(channel, f"/of.grpclib/{name}", bytes, bytes)(b"", timeout=10)
    except Exception as error: # grpclib's own, or Python's
        return f"{type(error).__name__}, {error}"
    finally:
        channel.close()
    return "OK"

for name in "Refuse", "Drain":
    print(f"{name}, grpcio:", by_grpcio(name))
    print(f"{name}, grpclib:", asyncio.run(by_grpclib(name)))
PY
cat >client.mjs <<'JS'
import grpc from "@grpc/grpc-js";
import { Code } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { EmptySchema } from "@bufbuild/protobuf/wkt";
const address = `127.0.0.1:${process.argv[2]}`;
const bytes = (value) => value;
const parent = { kind: "service", typeName: "of.connect", method: {} };
for (const name of ["Refuse", "Drain"]) {
    const client = new grpc.Client(address, grpc.credentials.createInsecure(), { "grpc.use_local_subchannel_pool": 1 });
    const transport = createGrpcTransport({ baseUrl: `http://${address}` });
    const ofGrpc = await new Promise((done) => client.makeUnaryRequest(`/of.grpcjs/${name}`, bytes, bytes, Buffer.alloc(0), { deadline: Date.now() + 10000 }, (error) =>
        done(error ? `${grpc.status[error.code]}, ${error.details}` : "OK")));
    const method = { kind: "rpc", methodKind: "unary", name, localName: name, parent, input: EmptySchema, output: EmptySchema, idempotency: 0 };
    const ofConnect = await transport.unary(method, undefined, 10000, undefined, {}).then(() => "OK", (error) => `${Code[error.code]}, ${error.rawMessage}`);
    console.log(`${name}, grpc-js: ${ofGrpc}`);
    console.log(`${name}, connect-node: ${ofConnect}`);
}
process.exit();
JS
mkdir go
cat >go/go.mod <<'MOD'
module example/client

go 1.25.0

require (
	google.golang.org/grpc v1.85.0
	google.golang.org/protobuf v1.36.12
)
MOD
cat >go/main.go <<'GO'
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
)

func main() {
	for _, name := range []string{"Refuse", "Drain"} {
		channel, err := grpc.NewClient("passthrough:///127.0.0.1:"+os.Args[1], grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			panic(err)
		}
		limit, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		err = channel.Invoke(limit, "/of.go/"+name, &emptypb.Empty{}, &emptypb.Empty{})
		cancel()
		channel.Close()
		fmt.Printf("%s, grpc-go: %s\n", name, status.Code(err))
	}
}
GO
(cd go && GOWORK=off GOFLAGS=-mod=mod go build -o client . 2>build.log) || { cat go/build.log; exit 1; }
env/bin/python server.py >server.port &
pids+=($!)
until [ -s server.port ]; do sleep 0.1; done
{
    timeout 60 env/bin/python client.py "$(cat server.port)"
    timeout 60 node client.mjs "$(cat server.port)"
    timeout 60 go/client "$(cat server.port)"
} 2>log | tee out || { cat log; exit 1; }
diff out - <<'SEEN'
Refuse, grpcio: UNAVAILABLE, Stream removed (RST_STREAM (Received RST_STREAM with error code 7))
Refuse, grpclib: StreamTerminatedError, Stream reset by remote party, error_code: 7
Drain, grpcio: OK
Drain, grpclib: StreamTerminatedError, Connection lost
Refuse, grpc-js: OK
Refuse, connect-node: Internal, Stream closed with error code NGHTTP2_REFUSED_STREAM
Drain, grpc-js: OK
Drain, connect-node: Internal, Stream closed with error code NGHTTP2_REFUSED_STREAM
Refuse, grpc-go: OK
Drain, grpc-go: OK
SEEN
