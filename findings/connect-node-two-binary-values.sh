#!/usr/bin/env bash
# Connect for Node (npm: @connectrpc/connect-node) as a gRPC client of gRPC's Python server (PyPI: grpcio), with two values for a `-bin` key.
#
# Guess before the first run: the server reads both. Either the client writes two fields, or it writes one with a comma, and the server
# splits it before it decodes, as gRPC's description of its protocol over HTTP/2 demands of every implementation.
# Seen with 2.1.2 and 1.85.3: the client keeps metadata in the `Headers` of fetch, and these make one field of it, `AQ, Ag`. The server
# does not split: the call ends as INTERNAL, "Error parsing 'x-bin' metadata: illegal base64 encoding", and no handler is asked. One
# binary value arrives, and so do two of text, as one. @grpc/grpc-js 1.14.7 splits.
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
env/bin/pip install --quiet grpcio==1.85.3
echo '{ "private": true, "type": "module" }' >package.json
npm install --silent --no-audit --no-fund @bufbuild/protobuf@2.10.1 @connectrpc/connect@2.1.2 @connectrpc/connect-node@2.1.2 @grpc/grpc-js@1.14.7 >npm.log

cat >server.py <<'PY'
# Says which values of the caller's metadata it gets, and answers with an empty message.
import concurrent.futures, grpc
class Any(grpc.GenericRpcHandler):
    def service(self, _):
        def say(_, context):
            seen = [value.hex() if key.endswith("-bin") else value for key, value in context.invocation_metadata() if key in ("x-bin", "x-text")]
            context.send_initial_metadata((("x-seen", " and ".join(seen)),))
            return b""
        return grpc.unary_unary_rpc_method_handler(say)
server = grpc.server(concurrent.futures.ThreadPoolExecutor(2))
server.add_generic_rpc_handlers((Any(),))
port = server.add_insecure_port("127.0.0.1:0")
server.start()
print(port, flush=True)
server.wait_for_termination(60)
PY
cat >server.mjs <<'JS'
// The same by grpc-js.
import grpc from "@grpc/grpc-js";
const bytes = (value) => value;
const server = new grpc.Server();
const say = { path: "/app.Echo/Say", requestStream: false, responseStream: false, requestDeserialize: bytes, responseSerialize: bytes };
server.addService({ say }, {
    say(call, answer) {
        const values = [...call.metadata.get("x-bin"), ...call.metadata.get("x-text")];
        const seen = new grpc.Metadata();
        seen.set("x-seen", values.map((value) => (Buffer.isBuffer(value) ? value.toString("hex") : value)).join(" and "));
        call.sendMetadata(seen);
        answer(null, Buffer.alloc(0));
    },
});
server.bindAsync("127.0.0.1:0", grpc.ServerCredentials.createInsecure(), (error, port) => console.log(error ?? port));
setTimeout(() => process.exit(), 60000);
JS
cat >client.mjs <<'JS'
import { encodeBinaryHeader } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { EmptySchema } from "@bufbuild/protobuf/wkt";
const [port, name] = process.argv.slice(2);
const parent = { kind: "service", typeName: "app.Echo", method: {} };
const method = { kind: "rpc", methodKind: "unary", name: "Say", localName: "say", parent, input: EmptySchema, output: EmptySchema, idempotency: 0 };
const transport = createGrpcTransport({ baseUrl: `http://127.0.0.1:${port}` });
for (const [label, key, values] of [
    ["one binary value", "x-bin", [encodeBinaryHeader(new Uint8Array([1]))]],
    ["two of text", "x-text", ["1", "2"]],
    ["two binary values", "x-bin", [encodeBinaryHeader(new Uint8Array([1])), encodeBinaryHeader(new Uint8Array([2]))]],
]) {
    const headers = new Headers();
    for (const value of values) headers.append(key, value);
    const outcome = await transport.unary(method, undefined, 10000, headers, {}).then((answer) => answer.header.get("x-seen"), String);
    console.log(`${name}, ${label} (${headers.get(key)}): ${outcome}`);
}
process.exit();
JS
env/bin/python server.py >python.port &
pids+=($!)
node server.mjs >node.port &
pids+=($!)
for port in python.port node.port; do until [ -s $port ]; do sleep 0.1; done; done
for server in python node; do node client.mjs "$(cat $server.port)" $server; done | tee out
diff out - <<'SEEN'
python, one binary value (AQ): 01
python, two of text (1, 2): 1, 2
python, two binary values (AQ, Ag): ConnectError: [internal] Error parsing 'x-bin' metadata: illegal base64 encoding
node, one binary value (AQ): 01
node, two of text (1, 2): 1, 2
node, two binary values (AQ, Ag): 01 and 02
SEEN
