"""What a client of a provider that answers later needs in a test: an address to be called back at, and patience."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
from PIL import Image

from gateway.sandbox.client import Sandbox

PATIENCE = 30


@dataclass(frozen=True, slots=True)
class Call:
    """A callback that came; header names are lower case."""

    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(slots=True)
class Listener:
    """An address to be called back at, which also serves pictures: it answers `statuses` in turn, then 200."""

    url: str = ""
    calls: list[Call] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    pictures: dict[str, bytes] = field(default_factory=dict)

    def wait_for(self, count: int) -> list[Call]:
        """Return the calls once there are so many."""
        until(lambda: len(self.calls) >= count)
        return self.calls


@contextmanager
def listening() -> Iterator[Listener]:
    """Listen on a free port."""
    listener = Listener()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            status = listener.statuses.pop(0) if listener.statuses else 200
            listener.calls.append(Call(self.path, headers, body))
            self._answer(status, b"")

        def do_GET(self) -> None:
            picture = listener.pictures.get(self.path)
            self._answer(404 if picture is None else 200, picture or b"")

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is the base class's
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        listener.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield listener
        finally:
            server.shutdown()
            thread.join()


def until(true: Callable[[], bool]) -> None:
    """Wait until something holds; fails after a long while."""
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def over(sandbox: Sandbox, number: int = -1) -> dict[str, Any]:
    """Return a piece of work, by default the newest, once it is over."""
    until(lambda: sandbox.tasks()[number]["state"] in {"done", "failed", "cancelled"})
    return sandbox.tasks()[number]


def image_of(answer: httpx.Response) -> Image.Image:
    """Decode an answer's body to a picture whose pixels were read."""
    assert answer.status_code == 200, answer.text
    image = Image.open(io.BytesIO(answer.content))
    image.load()
    return image
