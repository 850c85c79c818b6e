#!/usr/bin/env bash
# gRPC's Python library (PyPI: grpcio, on gRPC's C core) with its limits left as they are, and 12,000 bytes of metadata or of
# `grpc-message`.
#
# Guess before the first run: each of 200 calls ends the same way: all pass if the limit is 16 KiB, none if it is 8 KiB; and a status whose
# message is too long keeps its code.
# Seen with 1.85.3: about every second call ends as RESOURCE_EXHAUSTED, "received metadata size exceeds soft limit (... vs. 8192)", with
# the same bytes on the same channel: between a soft limit and a hard one (16 KiB, as documented) calls are refused at random. So it is with
# trailers: half of the answers NOT_FOUND with a long message reach the caller as RESOURCE_EXHAUSTED, which policies for retries treat
# otherwise. A caller that retries gets through, and the fault stays hidden until the token or the baggage grows further. With 7,000
# bytes all pass. @grpc/grpc-js 1.14.7 as client of the same server gets NOT_FOUND each time.
#
# Needs Node 20 or later with npm, Python 3 and PyPI. Everything happens on loopback.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv env
env/bin/pip install --quiet grpcio==1.85.3
echo '{ "private": true, "type": "module" }' >package.json
npm install --silent --no-audit --no-fund @grpc/grpc-js@1.14.7 >npm.log

cat >ask.mjs <<'JS'
import grpc from "@grpc/grpc-js";
const bytes = (value) => value;
const client = new grpc.Client(`127.0.0.1:${process.argv[2]}`, grpc.credentials.createInsecure());
const seen = {};
for (let call = 0; call < 100; call++)
    await new Promise((done) => client.makeUnaryRequest("/app.Echo/Fail12000", bytes, bytes, Buffer.alloc(0), (error) => {
        seen[grpc.status[error.code]] = (seen[grpc.status[error.code]] ?? 0) + 1;
        done();
    }));
console.log(`grpc-js, a message of 12000: ${Object.keys(seen).join(", ")}`);
process.exit();
JS
cat >run.py <<'PY'
import concurrent.futures, re, subprocess
import grpc

class Any(grpc.GenericRpcHandler):
    def service(self, details):
        def say(_, context):
            if length := re.search("Fail([0-9]+)", details.method):
                context.abort(grpc.StatusCode.NOT_FOUND, "x" * int(length[1]))
            return b""
        return grpc.unary_unary_rpc_method_handler(say)

server = grpc.server(concurrent.futures.ThreadPoolExecutor(2))
server.add_generic_rpc_handlers((Any(),))
port = server.add_insecure_port("127.0.0.1:0")
server.start()
channel = grpc.insecure_channel(f"127.0.0.1:{port}")

def ask(method, metadata=()):
    try:
        channel.unary_unary(method)(b"", metadata=metadata, timeout=20)
        return "OK"
    except grpc.RpcError as error:
        soft = "soft limit" in error.details()
        return error.code().name + (" (soft limit)" if soft else "")

def tell(what, outcomes):
    print(f"{what}: {', '.join(sorted(set(outcomes)))}", flush=True)

for length in (7000, 12000):
    tell(f"grpcio, metadata of {length}", [ask("/app.Echo/Say", [("x-token", "x" * length)]) for _ in range(100)])
    tell(f"grpcio, a message of {length}", [ask(f"/app.Echo/Fail{length}") for _ in range(100)])
print(subprocess.run(["node", "ask.mjs", str(port)], capture_output=True, check=True, text=True, timeout=30).stdout.strip())
server.stop(0).wait()
PY
timeout 100 env/bin/python run.py 2>log | tee out
diff out - <<'SEEN'
grpcio, metadata of 7000: OK
grpcio, a message of 7000: NOT_FOUND
grpcio, metadata of 12000: OK, RESOURCE_EXHAUSTED (soft limit)
grpcio, a message of 12000: NOT_FOUND, RESOURCE_EXHAUSTED (soft limit)
grpc-js, a message of 12000: NOT_FOUND
SEEN
