"""Masking: an account's secret, should the account repeat it in a success, hidden before anybody sees it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

from gateway.http1.message import Incoming

SHORTEST: Final = 10
"""Bytes of a secret that is looked for: the base64 of images may hold a shorter one by chance."""


class Mask:
    """Hides one account's secret behind as many asterisks: lengths that were told stay right."""

    def __init__(self, secret: str | None) -> None:
        secret = secret or ""
        written = json.dumps(secret)[1:-1]
        forms = {secret, written, written.replace("/", "\\/")} if len(secret) >= SHORTEST else ()
        self._forms = [(form.encode(), b"*" * len(form)) for form in forms]

    def whole(self, body: bytes) -> bytes:
        """Return a whole body without the secret; the same object if it is not in."""
        for form, stars in self._forms:
            body = body.replace(form, stars)
        return body

    def over(self, response: Incoming) -> Incoming:
        """Return an answer whose body is without the secret."""
        return Masked(response, self, [form for form, _ in self._forms]) if self._forms else response


class Masked(Incoming):
    """Implements `Incoming` by another one. What may be the secret's beginning is held back until more is there."""

    def __init__(self, response: Incoming, mask: Mask, forms: Sequence[bytes]) -> None:
        self._response = response
        self._mask = mask
        self._forms = forms
        self._held = b""
        self.status_code = response.status_code
        self.said = response.said
        self.named = response.named

    def whole(self, limit: int) -> bytes | None:
        """Return the body if all of it is here, `limit` bytes at most."""
        body = self._response.whole(limit)
        return None if body is None else self._mask.whole(body)

    async def read(self) -> bytes:
        """Return the next bytes of the body, empty at its end; raises `httpx.TransportError`."""
        while chunk := await self._response.read():
            if self._held:
                chunk, self._held = self._held + chunk, b""
            chunk = self._mask.whole(chunk)
            if begun := self._begun(chunk):
                chunk, self._held = chunk[:-begun], chunk[-begun:]
            if chunk:
                return chunk
        left, self._held = self._held, b""
        return left

    def _begun(self, chunk: bytes) -> int:
        """Return how many of the last bytes may be the secret's first ones."""
        most = 0
        for form in self._forms:
            at = chunk.find(form[:1], max(len(chunk) - len(form) + 1, 0))
            while at >= 0 and not form.startswith(chunk[at:]):
                at = chunk.find(form[:1], at + 1)
            most = max(most, len(chunk) - at if at >= 0 else 0)
        return most

    async def aclose(self) -> None:
        """Close the other one."""
        await self._response.aclose()
