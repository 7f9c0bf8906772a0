"""What the head of a request must keep to beyond what the parser checks, so that no two readers take it differently."""

from __future__ import annotations

import re
from collections.abc import Iterable

from gateway.domain.errors import InvalidRequest

_VERSIONS = frozenset({"1.0", "1.1"})
_HOST = re.compile(rb"(?:[A-Za-z0-9._-]{1,255}|\[[0-9A-Fa-f:.]{2,45}(?:%[A-Za-z0-9._~-]{1,40})?\])(?::[0-9]{1,5})?")
_ABSOLUTE = re.compile(rb"https?://([^/?]*)(?:[/?]|\Z)", re.IGNORECASE)
_LENGTH_DIGITS = 19
"""More of them than any body has bytes; Python reads no number of thousands of digits."""


def check_head(version: str, method: bytes, target: bytes, headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Raise InvalidRequest for a head that is HTTP by its syntax and not to be served; names are lower case.

    The rules are those of RFC 9112: one host that is one (3.2), a target in origin form or of that host (3.2.1,
    3.2.2), no coding of a body but `chunked`, and that not in HTTP/1.0 (6.1).
    """
    if version not in _VERSIONS:
        raise _invalid("HTTP/1.1 and HTTP/1.0 are spoken here.")
    if method == b"CONNECT":
        raise _invalid("CONNECT is not served here.")
    hosts = 0
    host = b""
    for name, value in headers:
        if name == b"host":
            hosts, host = hosts + 1, value
        elif name == b"content-length" and len(value.strip()) > _LENGTH_DIGITS:
            raise _invalid("Content-Length is no length.", "Content-Length")
        elif name == b"transfer-encoding" and (value.strip().lower() != b"chunked" or version == "1.0"):
            raise _invalid("Transfer-Encoding is chunked in HTTP/1.1, and nothing else.", "Transfer-Encoding")
    _check_host(hosts, host, version)
    _check_target(target, host, method)


def _check_host(hosts: int, host: bytes, version: str) -> None:
    if hosts > 1 or (not hosts and version != "1.0"):
        raise _invalid(f"A request has exactly one Host header; this one has {hosts}.", "Host")
    if hosts and not _HOST.fullmatch(host.strip()):
        raise _invalid("Host must be the name or address of a host, with or without a port.", "Host")


def _check_target(target: bytes, host: bytes, method: bytes) -> None:
    if b"#" in target:
        raise _invalid("A URL is requested without its fragment.")
    if target.startswith(b"/") or (target == b"*" and method == b"OPTIONS"):
        return
    absolute = _ABSOLUTE.match(target)
    if absolute is None or absolute[1].lower() != host.strip().lower():
        raise _invalid("What is requested must be a path, or a URL of the host that Host names.")


def _invalid(message: str, header: str | None = None) -> InvalidRequest:
    return InvalidRequest(message, param=header, code="invalid_request")
