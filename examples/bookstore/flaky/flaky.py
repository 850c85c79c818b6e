"""A service that fails each book's first request with 503 and answers the second, for retries to be seen.

Environment: PORT, where to listen, 9080 by default.
"""

import collections
import os
import socket
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ASKED = collections.Counter()


class DualStackServer(ThreadingHTTPServer):
    """Listens on IPv6 and IPv4 with one socket."""

    address_family = socket.AF_INET6
    daemon_threads = True

    def server_bind(self):
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "flaky"
    timeout = 30

    def do_GET(self):
        if self.path == "/health":
            return self.answer(200)
        ASKED[self.path] += 1
        self.answer(503 if ASKED[self.path] % 2 else 200)

    def answer(self, status):
        body = b'{"version": "flaky"}\n'
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
