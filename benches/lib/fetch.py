"""The section `fetch`: many clients that ask for one object which is not there yet; the origin must be asked once a page."""

import collections
import hashlib
import http.server
import json
import os
import selectors
import socket
import threading
import time

from .blobs import MIB
from .figure import Limit
from .machine import Unmeasured
from .servers import ours

CLIENTS = 1000
OBJECT_BYTES, PAGE_BYTES = 64 * MIB, 4 * MIB
PAGES = OBJECT_BYTES // PAGE_BYTES
ANSWER_S_MAX = 60


class Origin(http.server.ThreadingHTTPServer):
    """Serves one object by ranges and counts what it is asked for."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.body, self.asked, self.sent_bytes, self.lock = b"", collections.Counter(), 0, threading.Lock()

    def renew(self):
        """Another object, nothing asked for yet; its URL and digest."""
        self.body, self.sent_bytes = os.urandom(OBJECT_BYTES), 0
        self.asked.clear()
        digest = hashlib.sha256(self.body).hexdigest()
        return f"http://127.0.0.1:{self.server_port}/{digest}", f"sha256:{digest}"


class Handler(http.server.BaseHTTPRequestHandler):
    """GET with one range."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):  # noqa: N802, the base class names it
        body, origin = self.server.body, self.server
        asked = self.headers.get("Range")
        begin, end = (int(n) for n in asked.removeprefix("bytes=").split("-")) if asked else (0, len(body) - 1)
        part = body[begin:end + 1]
        with origin.lock:
            for page in range(begin // PAGE_BYTES, (begin + len(part) - 1) // PAGE_BYTES + 1):
                origin.asked[page] += 1
            origin.sent_bytes += len(part)
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {begin}-{begin + len(part) - 1}/{len(body)}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", '"one"')
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part)

    def log_message(self, *_):
        """Nothing."""


def fetch(rounds, seconds):
    """Every round another object; all clients are connected before the first asks."""
    del seconds
    note = f"{CLIENTS} clients, one object of {OBJECT_BYTES // MIB} MiB, {PAGES} pages"
    most = Limit("single flight: requests at the origin for a page, at most", "requests", "lower", 1, note)
    moved = Limit("single flight: bytes from the origin / bytes of the object", "x", "lower", 1)
    took = Limit("single flight: until the last client has its 201", "s", "lower")
    origin = Origin()
    threading.Thread(target=origin.serve_forever, daemon=True).start()
    try:
        for _ in range(rounds):
            with ours() as node:
                url, digest = origin.renew()
                took.add("ours", all_at_once(node.port, url, digest))
                if len(origin.asked) != PAGES:
                    raise Unmeasured(f"the origin was asked for {len(origin.asked)} of {PAGES} pages")
                most.add("ours", max(origin.asked.values()))
                moved.add("ours", origin.sent_bytes / OBJECT_BYTES)
    finally:
        origin.shutdown()
        origin.server_close()
    return [most, moved, took]


def all_at_once(port, url, digest):
    """Asks from every client; seconds until all are answered rightly."""
    body = json.dumps({"url": url}).encode()
    request = b"POST /blobs/fetch HTTP/1.1\r\nHost: bench\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    clients = [socket.create_connection(("127.0.0.1", port), 10) for _ in range(CLIENTS)]
    begin = time.monotonic()
    with selectors.DefaultSelector() as ready:
        for client in clients:
            client.sendall(request)
            client.setblocking(False)
            ready.register(client, selectors.EVENT_READ)
        while ready.get_map():
            if time.monotonic() - begin > ANSWER_S_MAX:
                raise Unmeasured(f"{len(ready.get_map())} of {CLIENTS} clients have no answer after {ANSWER_S_MAX} s")
            for key, _ in ready.select(1):
                # Small: head and body come in one piece.
                answer = key.fileobj.recv(4096).decode()
                if not answer.startswith("HTTP/1.1 20") or digest not in answer:
                    raise Unmeasured(f"POST /blobs/fetch: {answer[:200]!r}")
                ready.unregister(key.fileobj)
    took = time.monotonic() - begin
    for client in clients:
        client.close()
    return took
