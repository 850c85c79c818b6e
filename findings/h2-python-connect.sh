#!/usr/bin/env bash
# CONNECT in the Python library h2 (PyPI), which hypercorn, mitmproxy and httpx speak HTTP/2 with.
#
# Guess before the first run: a CONNECT with `:method` and `:authority` alone, as RFC 9113, section 8.5 demands it, is sent by a client and
# taken by a server with default settings.
# Seen with 4.3.0: both raise ProtocolError, "Header block missing mandatory b':path' header". A client can leave the check of what it sends
# out (`validate_outbound_headers=False`); a server that takes tunnels has to do so for all that it receives.
#
# Needs Python 3 and PyPI. No socket is opened.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv env
env/bin/pip install --quiet h2==4.3.0
cat >connect.py <<'PY'
import h2.config, h2.connection, h2.exceptions
CONNECT = [(":method", "CONNECT"), (":authority", "app.example:80")]

def connection(client, **settings):
    made = h2.connection.H2Connection(h2.config.H2Configuration(client_side=client, **settings))
    made.initiate_connection()
    return made

def outcome(work):
    try:
        return ", ".join(type(event).__name__ for event in work() or []) or "sent"
    except h2.exceptions.ProtocolError as error:
        return f"{type(error).__name__}: {error}"

print("client:", outcome(lambda: connection(True).send_headers(1, CONNECT)))
lenient = connection(True, validate_outbound_headers=False)
lenient.send_headers(1, CONNECT)
print("server:", outcome(lambda: connection(False).receive_data(lenient.data_to_send())))
PY
env/bin/python connect.py | tee out
refused="ProtocolError: Header block missing mandatory b':path' header"
diff out - <<<"client: $refused
server: $refused"
