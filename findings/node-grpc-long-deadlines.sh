#!/usr/bin/env bash
# gRPC in Node (npm: @grpc/grpc-js, @connectrpc/connect-node), and a deadline that is days away.
#
# Guess before the first run: the call ends as it would with any deadline that is far away. `grpc-timeout` has room for 99,999,999 hours:
# eight digits at most, and a unit.
# Seen with @connectrpc/connect-node 2.1.2: its client writes milliseconds only, so that two days become `172800000m`, nine digits, and
# its own server refuses the call as `invalid_argument`. The servers of @grpc/grpc-js 1.14.7, grpcio 1.85.3 and grpclib 0.4.8 take it. From
# 2^31 milliseconds on (24.8 days) the client ends the call as `deadline_exceeded` before there is an answer, and the server, given
# `2592000S`, aborts its handler's signal at once. (Node's own timers take more than 2^31-1 milliseconds for one.)
# Seen with @grpc/grpc-js 1.14.7: its client is right. Its server takes `2592000S` for a deadline in the past: the call ends as
# DEADLINE_EXCEEDED, and its handler is asked all the same. grpcio and grpclib say OK, with up to 99999999H.
#
# Needs Node 20 or later with npm. Everything happens on loopback.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
echo '{ "private": true, "type": "module" }' >package.json
npm install --silent --no-audit --no-fund @bufbuild/protobuf@2.10.1 @connectrpc/connect@2.1.2 @connectrpc/connect-node@2.1.2 @grpc/grpc-js@1.14.7 >npm.log

cat >run.mjs <<'JS'
import http2 from "node:http2";
import { setTimeout as sleep } from "node:timers/promises";
import grpc from "@grpc/grpc-js";
import { connectNodeAdapter, createGrpcTransport } from "@connectrpc/connect-node";
import { EmptySchema } from "@bufbuild/protobuf/wkt";

const path = "/app.Echo/Say";
const bytes = (value) => value;
const say = {
    path, requestStream: false, responseStream: false,
    requestSerialize: bytes, requestDeserialize: bytes, responseSerialize: bytes, responseDeserialize: bytes,
};
const parent = { kind: "service", typeName: "app.Echo", method: {}, methods: [] };
const method = { kind: "rpc", methodKind: "unary", name: "Say", localName: "say", parent, input: EmptySchema, output: EmptySchema, idempotency: 0 };
parent.method.say = method;
parent.methods.push(method);

// Each handler takes 200 ms. `seen` is what the last one met.
let seen;
const byGrpc = new grpc.Server();
byGrpc.addService({ say }, {
    async say(call, answer) {
        await sleep(200);
        seen = call.cancelled ? "handler cancelled" : "handler undisturbed";
        answer(null, Buffer.alloc(0));
    },
});
const grpcPort = await new Promise((done, failed) =>
    byGrpc.bindAsync("127.0.0.1:0", grpc.ServerCredentials.createInsecure(), (error, port) => (error ? failed(error) : done(port))));
const byConnect = http2.createServer(connectNodeAdapter({
    routes(router) {
        router.rpc(method, async (_, context) => {
            await sleep(200);
            seen = context.signal.aborted ? "handler cancelled" : "handler undisturbed";
            return {};
        });
    },
}));
await new Promise((done) => byConnect.listen(0, "127.0.0.1", done));
const connectPort = byConnect.address().port;

// A call without a library, so that the field is what it says here.
function raw(port, timeout) {
    return new Promise((done) => {
        const session = http2.connect(`http://127.0.0.1:${port}`);
        const request = session.request({ ":method": "POST", ":path": path, "content-type": "application/grpc", te: "trailers", "grpc-timeout": timeout });
        let status;
        request.on("response", (head) => { status = head["grpc-status"] ?? status; });
        request.on("trailers", (fields) => { status = fields["grpc-status"] ?? status; });
        request.on("error", (error) => { status = error.code; });
        request.on("close", () => { session.close(); done(`grpc-status ${status}`); });
        request.resume();
        request.end(Buffer.alloc(5));
    });
}
for (const [name, port] of [["grpc-js", grpcPort], ["connect-node", connectPort]]) {
    for (const timeout of ["2147483S", "2592000S"]) {
        seen = undefined;
        const outcome = await raw(port, timeout);
        for (let tries = 0; !seen && tries < 50; tries++) await sleep(100);
        console.log(`server ${name}, grpc-timeout ${timeout}: ${outcome}, ${seen ?? "no handler"}`);
    }
}
// The clients; grpc-js asks the server that bears what it writes.
const client = new (grpc.makeGenericClientConstructor({ say }, "Echo"))(`127.0.0.1:${connectPort}`, grpc.credentials.createInsecure());
for (const days of [1, 2, 30]) {
    const milliseconds = days * 86_400_000;
    const ofGrpc = await new Promise((done) =>
        client.say(Buffer.alloc(0), { deadline: Date.now() + milliseconds }, (error) => done(error ? grpc.status[error.code] : "OK")));
    console.log(`client grpc-js, server connect-node, ${days} d: ${ofGrpc}`);
    for (const [name, port] of [["connect-node", connectPort], ["grpc-js", grpcPort]]) {
        const transport = createGrpcTransport({ baseUrl: `http://127.0.0.1:${port}` });
        const ofConnect = await transport.unary(method, undefined, milliseconds, undefined, {}).then(() => "OK", String);
        console.log(`client connect-node, server ${name}, ${days} d: ${ofConnect}`);
    }
}
process.exit();
JS
timeout 60 node --disable-warning=TimeoutOverflowWarning run.mjs | tee out
diff out - <<'SEEN'
server grpc-js, grpc-timeout 2147483S: grpc-status 0, handler undisturbed
server grpc-js, grpc-timeout 2592000S: grpc-status 4, handler cancelled
server connect-node, grpc-timeout 2147483S: grpc-status 0, handler undisturbed
server connect-node, grpc-timeout 2592000S: grpc-status 0, handler cancelled
client grpc-js, server connect-node, 1 d: OK
client connect-node, server connect-node, 1 d: OK
client connect-node, server grpc-js, 1 d: OK
client grpc-js, server connect-node, 2 d: OK
client connect-node, server connect-node, 2 d: ConnectError: [invalid_argument] protocol error: invalid grpc timeout value: 172800000m
client connect-node, server grpc-js, 2 d: OK
client grpc-js, server connect-node, 30 d: OK
client connect-node, server connect-node, 30 d: ConnectError: [deadline_exceeded] the operation timed out
client connect-node, server grpc-js, 30 d: ConnectError: [deadline_exceeded] the operation timed out
SEEN
