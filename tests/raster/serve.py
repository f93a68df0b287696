"""Serve a folder over HTTP with byte ranges, badly if asked: ``with served(folder) as server``.

A process of its own: GDAL may hold Python's lock while it waits for an answer. The first part of a
path may say what goes wrong, and the rest is a file (or, after ``bucket``, an object of S3):

- ``503x2``: the first two requests are answered by 503; any status and number
- ``cutx2``: the first two answers with a body end half-way
- ``whole``: byte ranges are ignored
- ``mute``: no answer at all
- ``to``: the rest is a URL without ``http://``, to which the client is sent

A server that is asked to fail counts what it failed for each such word.
"""

from __future__ import annotations

import collections
import contextlib
import hashlib
import http.server
import json
import re
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

LOG: list[tuple[str, str, int, int]] = []
TROUBLE: collections.Counter[str] = collections.Counter()
LOCK = threading.Lock()


@dataclass(frozen=True)
class Served:
    """A running server of files."""

    url: str
    folder: Path

    def log(self) -> list[tuple[str, str, int, int]]:
        """Return and forget what was asked for: method, path, status, bytes sent."""
        with urllib.request.urlopen(f"{self.url}/log") as answer:
            return [tuple(entry) for entry in json.load(answer)]


@contextlib.contextmanager
def served(folder: Path) -> Iterator[Served]:
    """Serve a folder on the loopback."""
    command = [sys.executable, __file__, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield Served(f"http://127.0.0.1:{server.stdout.readline().strip()}", folder)
        finally:
            server.terminate()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path == "/log":
            with LOCK:
                content = json.dumps(LOG).encode()
                LOG.clear()
            self.answer(200, content, content, {})
            return
        trouble, _, rest = self.path.lstrip("/").partition("/")
        if trouble == "mute":
            self.note(0, 0)
            threading.Event().wait(30)
            return
        if trouble == "to":
            self.answer(302, b"", b"", {"Location": f"http://{rest}"})
            return
        limited = re.fullmatch(r"(\d+|cut)x(\d+)", trouble)
        known = limited is not None or trouble in {"whole", "bucket"}
        path = Path(sys.argv[1]) / (rest if known else self.path.lstrip("/"))
        if limited and limited[1] != "cut" and self.fails(trouble, int(limited[2])):
            self.answer(int(limited[1]), b"", b"", {})
            return
        if not path.is_file():
            self.answer(404, b"", b"", {})
            return
        self.serve(path, trouble, cut=int(limited[2]) if limited and limited[1] == "cut" else 0)

    do_HEAD = do_GET

    def serve(self, path, trouble, cut):
        content = path.read_bytes()
        first, last = 0, len(content) - 1
        ranged = re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if ranged and trouble != "whole":
            first, last = int(ranged[1]), min(int(ranged[2] or last), last)
        headers = {} if trouble == "whole" else {"Accept-Ranges": "bytes"}
        headers["ETag"] = f'"{hashlib.md5(content).hexdigest()}"'
        headers |= {"Content-Type": "application/json"} if content.startswith(b"{") else {}
        status = 200
        if ranged and trouble != "whole":
            status = 206
            headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
        body = content[first : last + 1]
        sent = body
        if cut and self.command == "GET" and self.fails(trouble, cut):
            sent = body[: len(body) // 2]
            self.close_connection = True
        self.answer(status, body, sent, headers)

    def answer(self, status, body, sent, headers):
        if self.command == "HEAD":
            sent = b""
        if self.path != "/log":
            self.note(status, len(sent))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(sent)

    def note(self, status, sent):
        with LOCK:
            LOG.append((self.command, self.path, status, sent))

    def fails(self, trouble, times):
        with LOCK:
            TROUBLE[trouble] += 1
            return TROUBLE[trouble] <= times

    def log_message(self, *args):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        pass  # the client went away


if __name__ == "__main__":
    with Server(("127.0.0.1", 0), Handler) as running:
        sys.stdout.write(f"{running.server_port}\n")
        sys.stdout.flush()
        running.serve_forever()
