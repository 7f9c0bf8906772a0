"""Files: the page itself, its scripts and styles, as they lie in the package; read once."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files

from gateway.domain.errors import NotFound
from gateway.web.context import RequestContext

TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "txt": "text/plain; charset=utf-8",
}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""What a browser may do for these pages: nothing but what this very host serves, and no script in the page itself."""
SAFE = [
    ("content-security-policy", POLICY),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
]
_FOLDER = files(__package__) / "static"


async def send_file(context: RequestContext, name: str) -> None:
    """Answer with a file, or with 304 if the client has it; NotFound if there is none."""
    found = _read(name)
    if found is None:
        raise NotFound("There is no such file.")
    body, tag = found
    headers = [("etag", tag), ("cache-control", "no-cache"), ("x-request-id", context.request_id), *SAFE]
    if context.headers.get("if-none-match") == tag:
        await context.start(304, headers)
        await context.write(b"", more=False)
        return
    kind = TYPES[name.rpartition(".")[2]]
    await context.start(200, [("content-type", kind), ("content-length", str(len(body))), *headers])
    await context.write(body, more=False)


@cache
def _names() -> frozenset[str]:
    return frozenset(each.name for each in _FOLDER.iterdir() if each.name.rpartition(".")[2] in TYPES)


@cache
def _content(name: str) -> tuple[bytes, str]:
    body = (_FOLDER / name).read_bytes()
    return body, f'"{hashlib.sha256(body).hexdigest()[:20]}"'


def _read(name: str) -> tuple[bytes, str] | None:
    return _content(name) if name in _names() else None
