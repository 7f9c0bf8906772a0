"""Decompression: an answer that comes compressed, though nobody asked for that, read as what it was before."""

from __future__ import annotations

import zlib
from typing import Final

import httpx

from gateway.http1.message import Incoming
from gateway.providers.outcome import of_garbage

PACKINGS: Final = frozenset({"gzip", "x-gzip", "deflate"})
"""Values of `content-encoding` that can be undone."""
EITHER: Final = zlib.MAX_WBITS | 32
"""Where a header of gzip or of zlib begins, whichever is there."""

_MEMBER: Final = b"\x1f\x8b"
"""How each member of gzip begins; an answer may be several (RFC 1952, 2.2)."""
_MOST_IN_VAIN: Final = 1024 * 1024
"""Bytes that may come without anything in them."""
_PIECE: Final = 64 * 1024
"""Bytes that are unpacked at a time: a few may hold gigabytes."""
_OF_THE_PACKED: Final = frozenset({"content-encoding", "content-length"})


def unpacked(response: Incoming) -> Incoming:
    """Return an answer without its compression; UpstreamFailure (garbage) if it is encoded in a way not known here."""
    encoding = response.named.get("content-encoding", "").strip().lower()
    if encoding in ("", "identity"):
        return response
    if encoding not in PACKINGS:
        raise of_garbage(f"the answer is encoded as {encoding[:40]!r}", response.status_code)
    return Decompressed(response)


class Decompressed(Incoming):
    """Implements `Incoming` by another one; its end proves that it is whole."""

    def __init__(self, response: Incoming) -> None:
        self._response = response
        self._unpacker = zlib.decompressobj(EITHER)
        self.status_code = response.status_code
        self.said = [field for field in response.said if field[0] not in _OF_THE_PACKED]
        named = {name: value for name, value in response.named.items() if name not in _OF_THE_PACKED}
        self.named = {**named, "transfer-encoding": "gzip"}

    def whole(self, limit: int) -> None:
        """Have it read."""

    async def read(self) -> bytes:
        """Return the next bytes, empty at the end; raises `httpx.TransportError`, also for what cannot be unpacked.

        The end is that of the last member: nobody waits for what else there may be.
        """
        room = _MOST_IN_VAIN
        try:
            while packed := await self._packed():
                if self._unpacker.eof:
                    if not packed.startswith(_MEMBER):
                        return b""
                    self._unpacker = zlib.decompressobj(EITHER)
                if text := self._unpacker.decompress(packed, _PIECE):
                    return text
                if (room := room - len(packed)) < 0:
                    raise httpx.RemoteProtocolError("the answer does not begin in its encoding")
            text = self._unpacker.flush()
        except zlib.error as error:
            raise httpx.RemoteProtocolError("the answer is not encoded as it says") from error
        if not text and not self._unpacker.eof:
            raise httpx.RemoteProtocolError("the answer is cut off in its encoding")
        return text

    async def _packed(self) -> bytes:
        """Return what is to be unpacked next, of which enough to tell whether a member begins."""
        packed = self._unpacker.unconsumed_tail or self._unpacker.unused_data or await self._response.read()
        return packed + await self._response.read() if self._unpacker.eof and packed == _MEMBER[:1] else packed

    async def aclose(self) -> None:
        """Close the packed one."""
        await self._response.aclose()
