"""How many stars each reviewer gave.

Environment: PORT, where to listen, 9080 by default.
"""

import json
import os
import socket
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

STARS = {"Ottilie": 5, "Bram": 3}


class DualStackServer(ThreadingHTTPServer):
    """Listens on IPv6 and IPv4 with one socket."""

    address_family = socket.AF_INET6
    request_queue_size = 128
    daemon_threads = True

    def server_bind(self):
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()


class Handler(BaseHTTPRequestHandler):
    server_version = "ratings"
    timeout = 30

    def do_GET(self):
        parts = self.path.strip("/").split("/")
        if parts == ["health"]:
            self.answer(200, {"status": "ok"})
        elif len(parts) == 2 and parts[0] == "ratings" and parts[1].isdigit():
            self.answer(200, {"id": int(parts[1]), "ratings": STARS})
        else:
            self.answer(404, {"error": "no such page"})

    def answer(self, status, value):
        body = json.dumps(value).encode() + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self):
        return self.client_address[0].removeprefix("::ffff:")


if __name__ == "__main__":
    sys.stderr.reconfigure(line_buffering=True)
    DualStackServer(("::", int(os.environ.get("PORT", "9080"))), Handler).serve_forever()
