"""The page that a visitor sees: asks details and reviews, and makes HTML or JSON of their answers.

Environment:
  DETAILS_URL, REVIEWS_URL  where the other services are, for example http://details:9080
  PORT                      where to listen, 9080 by default
"""

import html
import json
import os
import socket
import sys
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

DETAILS_URL = os.environ.get("DETAILS_URL", "http://details:9080")
REVIEWS_URL = os.environ.get("REVIEWS_URL", "http://reviews:9080")
SECONDS = 5.0

STYLE = """
body { font: 16px/1.5 Georgia, serif; margin: 0 auto; max-width: 44rem; padding: 2rem 1rem; color: #22313f; background: #fbfaf7 }
h1 { font-size: 2rem; margin: 0 } .by { color: #6b7b8c; font-style: italic; margin-top: .2rem }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1.2rem; background: #fff; padding: 1rem 1.4rem; border: 1px solid #e4dfd3; border-radius: 6px }
dt { color: #6b7b8c } dd { margin: 0 } blockquote { margin: 1.2rem 0; padding: .2rem 1.2rem; border-left: 4px solid #cfd8dc; background: #fff }
.stars { font-size: 1.3rem; letter-spacing: .1rem } .error { color: #b03a2e } footer { color: #9aa7b3; font-size: .85rem; margin-top: 2rem }
"""


class DualStackServer(ThreadingHTTPServer):
    """Listens on IPv6 and IPv4 with one socket."""

    address_family = socket.AF_INET6
    request_queue_size = 128
    daemon_threads = True

    def server_bind(self):
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()


def ask(url):
    """The JSON behind a URL, or an object with `error` when that service cannot answer."""
    try:
        with urllib.request.urlopen(url, timeout=SECONDS) as answer:
            return json.load(answer)
    except (urllib.error.URLError, OSError, ValueError) as error:
        return {"error": str(error)}


def product(number):
    """All that the shop knows of one book."""
    return {
        "id": number,
        "details": ask(f"{DETAILS_URL}/details/{number}"),
        "reviews": ask(f"{REVIEWS_URL}/reviews/{number}"),
    }


def page(book):
    """One book as HTML."""
    text = html.escape
    details, reviews = book["details"], book["reviews"]
    if "error" in details:
        top = f'<h1>Book {book["id"]}</h1><p class="error">No details: {text(details["error"])}</p>'
    else:
        rows = "".join(
            f"<dt>{text(key)}</dt><dd>{text(str(details[key]))}</dd>"
            for key in ("publisher", "year", "pages", "language", "isbn")
        )
        top = f'<h1>{text(details["title"])}</h1><p class="by">{text(details["author"])}</p><dl>{rows}</dl>'
    if "error" in reviews:
        bottom = f'<p class="error">No reviews: {text(reviews["error"])}</p>'
    else:
        bottom = "".join(f"<blockquote><p>{text(r['text'])}</p>{stars(r)}<p>{text(r['reviewer'])}</p></blockquote>"
                         for r in reviews["reviews"])
        bottom += f'<footer>reviews {text(reviews["version"])}</footer>'
    return f"<!doctype html><html lang=en><meta charset=utf-8><title>Bookstore</title><style>{STYLE}</style>{top}<h2>What readers say</h2>{bottom}</html>"


def stars(review):
    """The rating of a review, if the version of the reviews service that answered knows ratings."""
    rating = review.get("rating")
    if rating is None:
        return ""
    if "error" in rating:
        return f'<p class="error">No rating: {html.escape(rating["error"])}</p>'
    count = int(rating["stars"])
    return f'<p class="stars" style="color:{html.escape(rating["color"])}">{"★" * count}{"☆" * (5 - count)}</p>'


class Handler(BaseHTTPRequestHandler):
    server_version = "productpage"
    timeout = 30

    def do_GET(self):
        parts = self.path.split("?")[0].strip("/").split("/")
        if parts == ["health"]:
            self.answer(200, "text/plain", b"ok\n")
        elif parts == [""]:
            self.book("0", as_json=False)
        elif len(parts) == 2 and parts[0] == "books":
            self.book(parts[1], as_json=False)
        elif len(parts) == 3 and parts[:2] == ["api", "books"]:
            self.book(parts[2], as_json=True)
        else:
            self.answer(404, "text/plain", b"no such page\n")

    def book(self, number, as_json):
        if not number.isdigit():
            self.answer(400, "text/plain", b"a book has a number\n")
            return
        book = product(int(number))
        status = 502 if any("error" in book[part] for part in ("details", "reviews")) else 200
        if as_json:
            self.answer(status, "application/json", json.dumps(book).encode() + b"\n")
        else:
            self.answer(status, "text/html; charset=utf-8", page(book).encode())

    def answer(self, status, kind, body):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self):
        return self.client_address[0].removeprefix("::ffff:")


if __name__ == "__main__":
    sys.stderr.reconfigure(line_buffering=True)
    DualStackServer(("::", int(os.environ.get("PORT", "9080"))), Handler).serve_forever()
