"""What a client's headers come to: read once, of headers that a connection hands over again and again."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.domain.job import Wishes


@dataclass(slots=True)
class Envelope:
    """What headers ask of the gateway, besides what their body says. `mark` is their key's, see `ports.Keyring`."""

    wishes: Wishes
    idempotency_key: str | None
    retries: int | None
    """How often the client's library has repeated the request so far, if it counts."""
    mark: bytes = b""
    """Empty while nobody was found to be their sender."""


class ClientHeaders(dict[str, str]):
    """A client's headers by name, in lower case. `envelope` is kept once it was read of them."""

    envelope: Envelope | None = None
