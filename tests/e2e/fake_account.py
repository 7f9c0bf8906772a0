"""A provider's account on a real socket, for paths that pass through: what it answers is the test's to write."""

from __future__ import annotations

import contextlib
import http.server
import threading
from collections.abc import Callable, Iterator

Request = http.server.BaseHTTPRequestHandler


@contextlib.contextmanager
def serving_account(port: int, answer: Callable[[Request], None]) -> Iterator[None]:
    """Serve on this port, each request in a thread; `answer` reads the rest of one and writes what it gets."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            answer(self)

        do_GET = do_POST = do_DELETE = do_PUT = do_PATCH = answer  # noqa: N815 - names that the library looks for

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
