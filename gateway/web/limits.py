"""How much of a request the gateway reads before it refuses."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

KIB = 1024
MIB = 1024 * KIB
_SHORT = 8 * KIB


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """Bounds on request bodies. Sizes are bytes, times are seconds.

    Images are at most 50 MB each and at most 16 (the vendor's API reference for `/images/edits`).
    """

    total: int = 128 * MIB
    json_in_memory: int = MIB
    json_text: int = 2 * MIB
    """All of a JSON body but its long strings."""
    long_string: int = 400 * KIB
    """A JSON string beyond this is never decoded; it stays where the body is kept. A prompt may be as long as any, with
    each character written as a pair of escapes."""
    data_url: int = 256 * KIB
    """The same of a string that is an image; no more than that of any."""
    json_depth: int = 64
    json_values: int = 10_000
    files_in_memory: int = 256 * KIB
    field: int = 256 * KIB
    fields: int = MIB
    """All form fields together; they are kept in memory."""
    parts: int = 64
    part_head: int = 8 * KIB
    file: int = 50 * MIB
    images: int = 16
    slow_seconds: float = 60.0
    slow_bytes: int = 16 * KIB
    """A client that sends fewer bytes than this in `slow_seconds`, and has not finished, is cut off."""
    seconds: float = 900.0
    """All that a body may take."""
    short: int = dataclasses.field(init=False)
    """A JSON body of no more than this is read as one piece; none of it can reach any other of these bounds."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "data_url", min(self.data_url, self.long_string))
        object.__setattr__(self, "short", min(_SHORT, self.total, self.json_text, self.data_url))


@dataclass(frozen=True, slots=True)
class HeadLimits:
    """Bounds on a request's first line and header block, and on its connection. Sizes are bytes, times are seconds."""

    block: int = 32 * KIB
    fields: int = 100
    url: int = 8 * KIB
    seconds: float = 10.0
    """From the first byte of a request, or from the connection, to the end of its headers."""
    framing: int = 16 * KIB
    """Of a chunked body, beyond eight bytes to each of its own: chunk extensions."""
    ahead: int = 64
    """Requests that may be sent before the one ahead of them is answered."""
    unread_seconds: float = 120.0
    """For which a client may leave unread what was written to it."""
    idle_seconds: float = 75.0
    """Between an answer and the next request; longer than common load balancers wait (60 s), so that they close first
    and lose no request."""
