"""Paths that go through to a provider as they are: which may, and how a path is read before it is judged."""

from __future__ import annotations

import re
from dataclasses import dataclass

METHODS = ("GET", "POST", "DELETE", "PUT", "PATCH")
"""What may be let through; no others exist in such APIs."""

ROOT = "/v1"
_SEGMENT = re.compile(r"[A-Za-z0-9._~!$&'()*+,=:@-]+", re.ASCII)
_OWN = frozenset(
    {"assets", "batches", "hints", "images", "models", "requests", "responses", "tasks", "conversations", "videos"}
)
"""First parts of paths that are the gateway's own, or would make what nobody here counts."""
_OF_OPERATORS = re.compile(r"organi[sz]ations?|admin|dashboard|projects?|usage|costs|billing|invites|users|audit_logs")
"""First parts of paths by which accounts are administered; the secret of one may allow it."""


@dataclass(frozen=True, slots=True)
class PassRules:
    """What goes through to one provider. `paths` begin with `/v1/` and stand for all below them.

    `price` is nano-USD for a request, None where it is not known and nothing is held. No methods are all, and no paths
    are all that `read_path` lets by.
    """

    provider: str
    paths: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    price: int | None = None

    @property
    def route(self) -> str:
        """What headers, records and metrics call it."""
        return f"passthrough:{self.provider}"

    def takes(self, method: str, path: str) -> bool:
        """Tell whether it lets a request by; the path has been read by `read_path`."""
        if method not in (self.methods or METHODS):
            return False
        return not self.paths or any(path == own or path.startswith(f"{own}/") for own in self.paths)


def read_path(raw: str) -> str | None:
    """Return a path as it will be sent, or None if it may never go through, whatever policy says.

    It is read as it came, before anything is decoded, and nothing in it may be encoded: no two readers can then take
    it differently. No dot segments, no empty ones, no backslashes, no parameters; nothing of the gateway's own.
    """
    if not raw.startswith(f"{ROOT}/"):
        return None
    segments = raw.removeprefix(f"{ROOT}/").split("/")
    if not all(_SEGMENT.fullmatch(segment) and segment.strip(".") for segment in segments):
        return None
    first = segments[0].lower()
    if first in _OWN or _OF_OPERATORS.match(first):
        return None
    return raw


def remedy(path: str) -> str:
    """Return what may help whoever asks for a path that nothing serves."""
    if path.removeprefix(ROOT).startswith(("/batches", "/files")):
        return (
            "Batches of images are made by the gateway itself, of requests that may wait: send each with "
            "Prefer: respond-async and X-Gateway-Max-Wait, and look at its task (/v1/tasks)."
        )
    return "Check the base URL and the path for typos."
