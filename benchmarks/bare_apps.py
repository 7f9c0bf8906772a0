"""The least that a server can serve: read the body, answer 1,000 bytes. By ASGI and by RSGI; it imports nothing."""

from __future__ import annotations

from typing import Any

BODY = b"x" * 1000
HEADERS = [
    ("content-type", "application/json"),
    ("content-length", str(len(BODY))),
    ("x-request-id", "req_1"),
    ("cache-control", "no-store"),
]
_RAW = [(name.encode(), value.encode()) for name, value in HEADERS]


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    """Serve by ASGI."""
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": _RAW})
    await send({"type": "http.response.body", "body": BODY})


class _Rsgi:
    async def __rsgi__(self, _scope: Any, protocol: Any) -> None:
        await protocol()
        protocol.response_bytes(200, HEADERS, BODY)


rsgi = _Rsgi()
