"""Links: how a stored image is named, and how a link to it is signed."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping

from gateway.domain.errors import Forbidden

_NAME = re.compile(r"img_([0-9a-f]{16})_[0-9a-f]{64}", re.ASCII)
_DIGITS = re.compile(r"[0-9]{1,12}", re.ASCII)
EXPIRES, SIGNATURE = "expires", "signature"
"""Parameters of a link: Unix seconds, and HMAC-SHA256 in hexadecimal."""


def name_of(project: str, digest: str) -> str:
    """Return the name of an image with this SHA-256 (hex) in a project: the same one for the same image."""
    return f"img_{mark_of(project)}_{digest}"


def is_name(text: str) -> bool:
    """Tell whether this could be the name of a stored image; nothing else may become part of a path."""
    return _NAME.fullmatch(text) is not None


def belongs_to(name: str, project: str) -> bool:
    """Tell whether an image is the project's."""
    match = _NAME.fullmatch(name)
    return match is not None and match[1] == mark_of(project)


def mark_of_name(name: str) -> str:
    """Return the mark of the project that an image belongs to; empty for what is no name."""
    match = _NAME.fullmatch(name)
    return match[1] if match else ""


def digest_of(name: str) -> str:
    """Return the SHA-256 (hex) of an image; empty for what is no name."""
    return name.rpartition("_")[2] if is_name(name) else ""


def mark_of(project: str) -> str:
    """Return what stands for a project in the names of its images."""
    return hashlib.sha256(project.encode()).hexdigest()[:16]


class Signer:
    """Signs links with a key of its own, derived from a secret of the gateway's."""

    def __init__(self, secret: bytes) -> None:
        self._key = hmac.new(secret, b"links to stored images", hashlib.sha256).digest()

    def query(self, name: str, expires: int) -> str:
        """Return the query of a link that is good until `expires` (Unix seconds)."""
        return f"{EXPIRES}={expires}&{SIGNATURE}={self._signature(name, str(expires))}"

    def check(self, name: str, query: Mapping[str, str], now: float) -> None:
        """Raise Forbidden unless the query is that of a link to this image, and still good."""
        expires, given = query.get(EXPIRES, ""), query.get(SIGNATURE, "")
        if not hmac.compare_digest(self._signature(name, expires).encode(), given.encode("utf-8", "replace")):
            raise Forbidden("This link was not made here, or was changed on its way.", code="invalid_link")
        if not _DIGITS.fullmatch(expires) or int(expires) < now:
            raise Forbidden("This link has expired.", code="link_expired")

    def _signature(self, name: str, expires: str) -> str:
        text = f"{name}\n{expires}".encode("utf-8", "replace")
        return hmac.new(self._key, text, hashlib.sha256).hexdigest()
