#!/usr/bin/env bash
# gRPC's Python client (PyPI: grpcio, on gRPC's C core), and a server that pads its DATA frames.
#
# Guess before the first run: the message is read as any other. Padding is part of HTTP/2 (RFC 9113, section 6.1), needs no agreement, and
# is stripped by whoever reads frames.
# Seen with grpcio 1.85.3: the call ends as INTERNAL, "Stream removed (unsupported data flags: 0x08 stream: 1)". grpclib 0.4.9 (on h2) and
# @grpc/grpc-js 1.14.7, asked the same way, read the message. So a hop that pads against traffic analysis breaks calls of the C core.
#
# Needs Node 20 or later with npm, Python 3 and PyPI. Everything happens on loopback.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv env
env/bin/pip install --quiet grpcio==1.85.3 grpclib==0.4.9 h2==4.4.1
echo '{ "private": true, "type": "module" }' >package.json
npm install --silent --no-audit --no-fund @grpc/grpc-js@1.14.7 >npm.log

cat >ask.mjs <<'JS'
import grpc from "@grpc/grpc-js";
const bytes = (value) => value;
const client = new grpc.Client(`127.0.0.1:${process.argv[2]}`, grpc.credentials.createInsecure());
client.makeUnaryRequest("/app.Echo/Say", bytes, bytes, Buffer.alloc(0), { deadline: Date.now() + 10000 }, (error, message) => {
    console.log(error ? `${grpc.status[error.code]}: ${error.details}` : `OK, ${message}`);
    process.exit();
});
JS
cat >run.py <<'PY'
import asyncio, socket, subprocess, threading
import grpc, grpclib.client, grpclib.const
import h2.config, h2.connection, h2.events

class Bytes:
    # A message that is its own encoding, so that no .proto file is needed.
    __content_subtype__ = "proto"
    def encode(self, message, _):
        return message
    decode = encode

def serve(listener, padding):
    sock, _ = listener.accept()
    http = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
    http.initiate_connection()
    sock.sendall(http.data_to_send())
    while data := sock.recv(65536):
        for event in http.receive_data(data):
            if isinstance(event, h2.events.StreamEnded):
                http.send_headers(event.stream_id, [(":status", "200"), ("content-type", "application/grpc")])
                http.send_data(event.stream_id, b"\0\0\0\0\5hello", pad_length=padding)
                http.send_headers(event.stream_id, [("grpc-status", "0")], end_stream=True)
        sock.sendall(http.data_to_send())

def by_grpcio(port):
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        try:
            return "OK, " + channel.unary_unary("/app.Echo/Say")(b"", timeout=10).decode()
        except grpc.RpcError as error:
            return f"{error.code().name}: {error.details()}"

def by_grpclib(port):
    async def ask():
        async with grpclib.client.Channel("127.0.0.1", port, codec=Bytes()) as channel:
            async with channel.request("/app.Echo/Say", grpclib.const.Cardinality.UNARY_UNARY, bytes, bytes, timeout=10) as stream:
                await stream.send_message(b"", end=True)
                return "OK, " + (await stream.recv_message()).decode()
    return asyncio.run(ask())

def by_grpc_js(port):
    return subprocess.run(["node", "ask.mjs", str(port)], capture_output=True, check=True, text=True).stdout.strip()

for padding in (None, 8):
    for name, ask in (("grpcio", by_grpcio), ("grpclib", by_grpclib), ("grpc-js", by_grpc_js)):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            threading.Thread(target=serve, args=(listener, padding), daemon=True).start()
            print(f"{'padded' if padding else 'plain'}, {name}: {ask(listener.getsockname()[1])}", flush=True)
PY
timeout 60 env/bin/python run.py 2>log | tee out
diff out - <<'SEEN'
plain, grpcio: OK, hello
plain, grpclib: OK, hello
plain, grpc-js: OK, hello
padded, grpcio: INTERNAL: Stream removed (unsupported data flags: 0x08 stream: 1)
padded, grpclib: OK, hello
padded, grpc-js: OK, hello
SEEN
