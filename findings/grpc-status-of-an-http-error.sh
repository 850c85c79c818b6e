#!/usr/bin/env bash
# Clients of gRPC (PyPI: grpcio, grpclib; npm: @grpc/grpc-js, @connectrpc/connect-node), and answers that consist of one block of fields,
# as something between the two ends makes them.
#
# Guess before the first run: `grpc-status` decides wherever it is there, since gRPC derives a status from HTTP's only where there is none;
# a percent sign in `grpc-message` that escapes nothing is shown as it is, since gRPC has a client not fail for it; and
# `application/grpc;charset=utf-8` is gRPC, since a parameter is part of a media type's syntax.
# Seen with grpclib 0.4.8 and @connectrpc/connect-node 2.1.2: with HTTP 503 both say UNAVAILABLE, whatever `grpc-status` says, so that a
# caller repeats what it was told not to; the media type with a parameter is UNKNOWN to both. In connect-node a bare percent sign costs
# the status, too: UNKNOWN, "URI malformed", for RESOURCE_EXHAUSTED. @grpc/grpc-js 1.14.7 keeps the status, and shows the whole message
# undecoded. grpcio 1.85.3 does as guessed in all four.
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
export PYTHONUTF8=1
python3 -m venv env
env/bin/pip install --quiet grpcio==1.85.3 grpclib==0.4.8 h2==4.4.1
echo '{ "private": true, "type": "module" }' >package.json
npm install --silent --no-audit --no-fund @bufbuild/protobuf@2.10.1 @connectrpc/connect@2.1.2 @connectrpc/connect-node@2.1.2 @grpc/grpc-js@1.14.7 >npm.log

cat >server.mjs <<'JS'
// Answers by the method's name.
import http2 from "node:http2";
const plain = { ":status": 200, "content-type": "application/grpc", "grpc-status": "8", "grpc-message": "caf%C3%A9 full" };
const answers = {
    Plain: plain,
    Status503: { ...plain, ":status": 503 },
    Percent: { ...plain, "grpc-message": "caf%C3%A9 100% full" },
    Parameter: { ...plain, "content-type": "application/grpc;charset=utf-8" },
};
const server = http2.createServer();
server.on("stream", (stream, head) => {
    stream.on("error", () => {});
    stream.respond(answers[head[":path"].split("/").pop()], { endStream: true });
});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
setTimeout(() => process.exit(), 100000);
JS
cat >client.py <<'PY'
import asyncio, sys
import grpc, grpclib.client, grpclib.exceptions
port = int(sys.argv[1])

class Bytes:
    # A message that is its own encoding.
    __content_subtype__ = "proto"
    def encode(self, message, _):
        return message
    def decode(self, data, _):
        return data

def by_grpcio(name):
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            channel.unary_unary(f"/app.Echo/{name}")(b"", timeout=10)
        except grpc.RpcError as error:
            return f"{error.code().name}, {error.details()}"

async def by_grpclib(name):
    channel = grpclib.client.Channel("127.0.0.1", port, codec=Bytes())
    try:
        await grpclib.client.UnaryUnaryMethod(channel, f"/app.Echo/{name}", bytes, bytes)(b"", timeout=10)
    except grpclib.exceptions.GRPCError as error:
        return f"{error.status.name}, {error.message}"
    finally:
        channel.close()

for name in ("Plain", "Status503", "Percent", "Parameter"):
    print(f"{name}, grpcio: {by_grpcio(name)}")
    print(f"{name}, grpclib: {asyncio.run(by_grpclib(name))}")
PY
cat >client.mjs <<'JS'
import grpc from "@grpc/grpc-js";
import { Code } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { EmptySchema } from "@bufbuild/protobuf/wkt";
const address = `127.0.0.1:${process.argv[2]}`;
const bytes = (value) => value;
const parent = { kind: "service", typeName: "app.Echo", method: {} };
const client = new grpc.Client(address, grpc.credentials.createInsecure());
const transport = createGrpcTransport({ baseUrl: `http://${address}` });
for (const name of ["Plain", "Status503", "Percent", "Parameter"]) {
    const ofGrpc = await new Promise((done) => client.makeUnaryRequest(`/app.Echo/${name}`, bytes, bytes, Buffer.alloc(0), (error) =>
        done(`${grpc.status[error.code]}, ${error.details}`)));
    const method = { kind: "rpc", methodKind: "unary", name, localName: name, parent, input: EmptySchema, output: EmptySchema, idempotency: 0 };
    const ofConnect = await transport.unary(method, undefined, 10000, undefined, {}).then(() => "OK", (error) => `${Code[error.code]}, ${error.rawMessage}`);
    console.log(`${name}, grpc-js: ${ofGrpc}`);
    console.log(`${name}, connect-node: ${ofConnect}`);
}
process.exit();
JS
node server.mjs >server.port &
pids+=($!)
until [ -s server.port ]; do sleep 0.1; done
{ timeout 60 env/bin/python client.py "$(cat server.port)"; timeout 60 node client.mjs "$(cat server.port)"; } | tee out
diff out - <<'SEEN'
Plain, grpcio: RESOURCE_EXHAUSTED, café full
Plain, grpclib: RESOURCE_EXHAUSTED, café full
Status503, grpcio: RESOURCE_EXHAUSTED, café full
Status503, grpclib: UNAVAILABLE, Received :status = '503'
Percent, grpcio: RESOURCE_EXHAUSTED, café 100% full
Percent, grpclib: RESOURCE_EXHAUSTED, café 100% full
Parameter, grpcio: RESOURCE_EXHAUSTED, café full
Parameter, grpclib: UNKNOWN, Invalid content-type: 'application/grpc;charset=utf-8'
Plain, grpc-js: RESOURCE_EXHAUSTED, café full
Plain, connect-node: ResourceExhausted, café full
Status503, grpc-js: RESOURCE_EXHAUSTED, café full
Status503, connect-node: Unavailable, HTTP 503
Percent, grpc-js: RESOURCE_EXHAUSTED, caf%C3%A9 100% full
Percent, connect-node: Unknown, URI malformed
Parameter, grpc-js: RESOURCE_EXHAUSTED, café full
Parameter, connect-node: Unknown, unsupported content type application/grpc;charset=utf-8
SEEN
