#!/usr/bin/env bash
# Two gRPC clients for Python (PyPI: grpcio, on gRPC's C core, and grpclib, on h2), and 103 (Early Hints) or 100 (Continue) before the 200.
#
# Guess before the first run: the call ends as it would without them. An answer may be preceded by any number of informational ones (RFC
# 9113, section 8.1), and a client has to be able to read those that it did not ask for (RFC 9110, section 15.2).
# Seen with grpcio 1.85.3: the first informational block is taken for the answer. The call ends as UNKNOWN, "Received http2 header with
# status: 103", and the 200 with `grpc-status: 0` behind it is not looked at. With grpclib 0.4.8: an error that is no gRPC status, and the
# connection is closed with all that is on it. grpc-go 1.76.0 and @grpc/grpc-js 1.14.7, asked the same way, say OK. So something between
# the two ends that passes informational answers on is enough to break calls.
#
# Needs Python 3 and PyPI. Everything happens on loopback.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv env
env/bin/pip install --quiet grpcio==1.85.3 grpclib==0.4.8 h2==4.3.0

cat >run.py <<'PY'
import asyncio, importlib.metadata, logging, socket, threading
import grpc, grpclib.client, grpclib.const, grpclib.exceptions
import h2.config, h2.connection, h2.events

logging.getLogger("asyncio").setLevel(logging.CRITICAL + 1) # which prints grpclib's traceback

class Bytes:
    # A message that is its own encoding, so that no .proto file is needed.
    __content_subtype__ = "proto"
    def encode(self, message, _):
        return message
    def decode(self, data, _):
        return data

def serve(listener, informational):
    # Answers each call with the informational answers, then with one empty message and OK.
    while True:
        try:
            sock, _ = listener.accept()
        except OSError:
            return
        sock.settimeout(10)
        http = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        http.initiate_connection()
        sock.sendall(http.data_to_send())
        try:
            while piece := sock.recv(65536):
                for event in http.receive_data(piece):
                    if isinstance(event, h2.events.RequestReceived):
                        for status in informational:
                            http.send_headers(event.stream_id, [(":status", status)])
                        http.send_headers(event.stream_id, [(":status", "200"), ("content-type", "application/grpc")])
                        http.send_data(event.stream_id, bytes(5))
                        http.send_headers(event.stream_id, [("grpc-status", "0")], end_stream=True)
                sock.sendall(http.data_to_send())
        except OSError:
            pass
        sock.close()

def by_grpcio(port):
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            channel.unary_unary("/app.Echo/Say")(b"", timeout=10)
        except grpc.RpcError as error:
            return f"{error.code().name}, {error.details()}"
        return "OK"

async def by_grpclib(port):
    channel = grpclib.client.Channel("127.0.0.1", port, codec=Bytes())
    try:
        await grpclib.client.UnaryUnaryMethod(channel, "/app.Echo/Say", bytes, bytes)(b"", timeout=10)
    except grpclib.exceptions.GRPCError as error:
        return f"{error.status.name}, {error.message}"
    except grpclib.exceptions.StreamTerminatedError as error:
        return f"{type(error).__name__}, {error}"
    finally:
        channel.close()
    return "OK"

for informational in ([], ["103"], ["100"]):
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=serve, args=(listener, informational), daemon=True).start()
    port = listener.getsockname()[1]
    before = " ".join(informational) or "nothing"
    for name, outcome in (("grpcio", by_grpcio(port)), ("grpclib", asyncio.run(by_grpclib(port)))):
        print(f"{name} {importlib.metadata.version(name)}, {before} before the 200: {outcome}", flush=True)
    listener.close()
PY
timeout 60 env/bin/python run.py | tee out
diff out - <<'SEEN'
grpcio 1.85.3, nothing before the 200: OK
grpclib 0.4.8, nothing before the 200: OK
grpcio 1.85.3, 103 before the 200: UNKNOWN, Received http2 header with status: 103
grpclib 0.4.8, 103 before the 200: StreamTerminatedError, Connection lost
grpcio 1.85.3, 100 before the 200: UNKNOWN, Received http2 header with status: 100
grpclib 0.4.8, 100 before the 200: StreamTerminatedError, Connection lost
SEEN
