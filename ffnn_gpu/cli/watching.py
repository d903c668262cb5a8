"""`ffnn-gpu train --watch`: serve the page about a run while it is trained, on this machine only.

Why the run folder is read and the training is not asked: the training does not wait for a browser, and does
not notice one that goes away. A page is made when a browser asks for it, from the files that the training
writes after each epoch.
"""

import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from ffnn_gpu.cli import run_folder
from ffnn_gpu.cli.exit_codes import Announce
from ffnn_gpu.cli.record import unfinished_record
from ffnn_gpu.errors import FfnnGpuError
from ffnn_gpu.report import findings_of
from ffnn_gpu.report.live import NEWS, live_page

HERE = "127.0.0.1"
PAUSE, BEAT = 0.5, 10.0  # seconds between two looks at the folder, and between signs of life
HEADERS = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff"}


class Watch:
    """A server of one run's page, whose address holds a random token.

    Attributes:
        address: of the page; "" until `begin`.
    """

    def __init__(self, announce: Announce) -> None:
        self.announce, self.address, self.token, self.folder = announce, "", "", Path()
        self.over = threading.Event()
        self._server: _Server | None = None

    def begin(self, folder: Path) -> None:
        """Serve the run in this folder from now on. A machine that forbids it is announced, and no error."""
        self.folder, self.token = folder, secrets.token_urlsafe(16)
        try:
            server = self._server = _Server((HERE, 0), _Handler)
        except OSError as error:
            self.announce(f"no page to watch: {error}")
            return
        server.watch = self
        self.address = f"http://{HERE}:{server.server_port}/{self.token}/"
        threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True).start()
        self.announce(f"watch {self.address}")

    def end(self) -> None:
        """End the server and the answers under way."""
        self.over.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def page(self) -> str:
        """Return the page as it is now. Raises FfnnGpuError or OSError while the files are being written."""
        return live_page(findings_of(unfinished_record(str(self.folder))))

    def news(self) -> Iterator[bool]:
        """Yield True whenever the run has written a row, and False as a sign of life."""
        known, spoke = self._state(), time.monotonic()
        yield True
        while not self.over.wait(PAUSE):
            now, known = known, self._state()
            if now != known or time.monotonic() - spoke > BEAT:
                spoke = time.monotonic()
                yield now != known

    def _state(self) -> tuple[int, int]:
        with suppress(OSError):
            found = (self.folder / run_folder.METRICS_FILE).stat()
            return found.st_mtime_ns, found.st_size
        return 0, 0


@contextmanager
def watched(announce: Announce) -> Iterator[Watch]:
    """Yield a server that ends with the block."""
    watch = Watch(announce)
    try:
        yield watch
    finally:
        watch.end()


class _Server(ThreadingHTTPServer):
    """Threads end with the process; an answer that fails is the browser's loss and prints nothing."""

    daemon_threads = True
    block_on_close = False
    watch: Watch

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print nothing."""


class _Handler(BaseHTTPRequestHandler):
    """Answer GET of the page and of its news, to those who know the token and name this machine.

    Why the name is checked: a page elsewhere could otherwise reach this server by a name of its own.
    """

    server: _Server
    server_version, sys_version = "ffnn_gpu", ""

    def do_GET(self) -> None:
        token, _, name = self.path.removeprefix("/").partition("/")
        port = self.server.server_port
        if self.headers.get("Host") not in (f"{HERE}:{port}", f"localhost:{port}"):
            self.send_error(403)
        elif not secrets.compare_digest(token.encode(), self.server.watch.token.encode()):
            self.send_error(404)
        elif name == NEWS:
            self._send_news()
        elif name in ("", "page"):
            self._send_page()
        else:
            self.send_error(404)

    def _send_page(self) -> None:
        try:
            content = self.server.watch.page().encode("utf-8")
        except (FfnnGpuError, OSError):  # the files are just being written
            self.send_error(503)
            return
        self._begin("text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _send_news(self) -> None:
        self._begin("text/event-stream")
        self.end_headers()
        with suppress(OSError):  # the browser has gone
            for is_new in self.server.watch.news():
                self.wfile.write(b"data: row\n\n" if is_new else b": alive\n\n")
                self.wfile.flush()

    def _begin(self, kind: str) -> None:
        self.send_response(200)
        for name, value in {"Content-Type": kind, **HEADERS}.items():
            self.send_header(name, value)

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing."""
