"""A visitor of the shop, who asks for book after book and checks that every service had its part in each page.

Without --count this goes on until SIGTERM. Each failed visit is a line on standard error; at the end one JSON object on
standard output says how it went, and the exit code is 1 when a visit failed. Every visit is a new connection.

Environment:
  PAGE_URL  where the page is, http://productpage:9080 by default; several, separated by spaces, are asked in turns
  MARK      a text that goes with every request, in the header X-Demo
"""

import argparse
import collections
import json
import os
import signal
import sys
import threading
import time
import urllib.error
import urllib.request

PAGES = os.environ.get("PAGE_URL", "http://productpage:9080").split()
MARK = os.environ.get("MARK", "visitor")
BOOKS = 3
# How many failures the result tells in words.
TOLD = 5


class Tally:
    """How visits went, counted by several threads."""

    def __init__(self, count):
        self.lock = threading.Lock()
        self.left = count
        self.sent = 0
        self.succeeded = 0
        self.slowest = 0.0
        self.reviews = collections.Counter()
        self.failures = []

    def next(self):
        """The number of the next visit, or None when there were enough."""
        with self.lock:
            if self.left is not None and self.sent >= self.left:
                return None
            self.sent += 1
            return self.sent - 1

    def succeed(self, version, seconds):
        with self.lock:
            self.succeeded += 1
            self.reviews[version] += 1
            self.slowest = max(self.slowest, seconds)

    def fail(self, why):
        print(why, file=sys.stderr)
        with self.lock:
            if len(self.failures) < TOLD:
                self.failures.append(why)

    def result(self):
        return {
            "sent": self.sent,
            "succeeded": self.succeeded,
            "failed": self.sent - self.succeeded,
            "reviews": dict(sorted(self.reviews.items())),
            "slowest_seconds": round(self.slowest, 3),
            "failures": self.failures,
        }


def visit(number, patience):
    """Asks for one book, and returns the version of the reviews service that had a part in the answer."""
    url = f"{PAGES[number % len(PAGES)]}/api/books/{number // len(PAGES) % BOOKS}"
    request = urllib.request.Request(url, headers={"X-Demo": MARK})
    with urllib.request.urlopen(request, timeout=patience) as answer:
        book = json.load(answer)
    version = book["reviews"]["version"]
    for review in book["reviews"]["reviews"]:
        if version != "v1" and "stars" not in review["rating"]:
            raise ValueError(f"a page without stars: {book}")
    if not book["details"]["title"]:
        raise ValueError(f"a page without a title: {book}")
    return version


def work(tally, stop, interval, patience):
    """One visitor: visits until there were enough, or until told to stop."""
    while not stop.is_set():
        number = tally.next()
        if number is None:
            return
        began = time.monotonic()
        try:
            tally.succeed(visit(number, patience), time.monotonic() - began)
        except urllib.error.HTTPError as error:
            tally.fail(f"visit {number}: {error}: {error.read(500).decode(errors='replace')}")
        except (OSError, ValueError, KeyError, TypeError) as error:
            tally.fail(f"visit {number}: {type(error).__name__}: {error}")
        stop.wait(interval)


def main():
    options = argparse.ArgumentParser(description="Visits the shop.")
    options.add_argument("--count", type=int, help="how many visits; without end when absent")
    options.add_argument("--parallel", type=int, default=1, help="how many visitors at once")
    options.add_argument("--interval", type=float, default=0.0, help="seconds from an answer to the next visit")
    options.add_argument("--patience", type=float, default=15.0, help="seconds to wait for an answer")
    options = options.parse_args()

    tally, stop = Tally(options.count), threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    visitors = [
        threading.Thread(target=work, args=(tally, stop, options.interval, options.patience))
        for _ in range(options.parallel)
    ]
    for visitor in visitors:
        visitor.start()
    for visitor in visitors:
        visitor.join()
    result = tally.result()
    print(json.dumps(result), flush=True)
    return 1 if result["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
