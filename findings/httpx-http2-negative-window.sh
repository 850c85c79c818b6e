#!/usr/bin/env bash
# httpx (PyPI, with httpcore and h2) that uploads over HTTP/2, and a server that lowers SETTINGS_INITIAL_WINDOW_SIZE meanwhile.
#
# Guess before the first run: httpx waits until WINDOW_UPDATE lifts the window above zero, sends the rest, and returns the answer: a window
# may become negative that way, and the sender has to keep track of it (RFC 9113, section 6.9.2).
# Seen with httpx 0.29.0, httpcore 1.0.9 and h2 4.4.1: the request ends at once as LocalProtocolError, "Cannot send 8930 bytes, flow control
# window is -25535". (Our explanation: httpcore waits while the window is zero, not while it is below, and takes the negative number for
# the length of the next piece: all but so many bytes of what is left.) With a window that is lowered to what has been sent, and no
# further, it waits and gets its answer. @grpc/grpc-js 1.14.7, grpcio 1.85.3 and Node 20's http2, asked the same way, wait.
#
# Needs Python 3 and PyPI. Everything happens on loopback.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv env
env/bin/pip install --quiet "httpx[http2]==0.29.0" httpcore==1.0.9 h2==4.4.1

cat >run.py <<'PY'
import socket, threading
import h2.config, h2.connection, h2.events, h2.settings
import httpx

def serve(listener, lowered):
    # Reads what the first window lets through, lowers it, and opens it half a second later.
    sock, _ = listener.accept()
    sock.settimeout(10)
    http = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
    http.initiate_connection()
    sock.sendall(http.data_to_send())
    received, lower = 0, True
    try:
        while piece := sock.recv(65536):
            for event in http.receive_data(piece):
                if isinstance(event, h2.events.DataReceived):
                    received += len(event.data)
                elif isinstance(event, h2.events.StreamEnded):
                    http.send_headers(event.stream_id, [(":status", "200")])
                    http.send_data(event.stream_id, f"{received} bytes".encode(), end_stream=True)
            if lower and received == 65535:
                lower = False
                http.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: lowered})
                sock.sendall(http.data_to_send())
                threading.Event().wait(0.5)
                http.increment_flow_control_window(1_000_000)
                http.increment_flow_control_window(200_000, 1)
            sock.sendall(http.data_to_send())
    except OSError:
        pass
    sock.close()

for lowered, window in ((65535, "zero"), (40000, "-25535")):
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=serve, args=(listener, lowered), daemon=True).start()
    with httpx.Client(http1=False, http2=True, trust_env=False, timeout=10) as client:
        try:
            outcome = client.post(f"http://127.0.0.1:{listener.getsockname()[1]}/", content=bytes(100_000)).text
        except httpx.HTTPError as error:
            outcome = f"{type(error).__name__}, {error}"
    print(f"window {window}: {outcome}", flush=True)
PY
timeout 60 env/bin/python run.py | tee out
diff out - <<'SEEN'
window zero: 100000 bytes
window -25535: LocalProtocolError, Cannot send 8930 bytes, flow control window is -25535
SEEN
