"""Callbacks to clients as Standard Webhooks 1.0.0 has them: signatures, secrets, and when to try again.

The specification is at github.com/standard-webhooks/standard-webhooks, `spec/standard-webhooks.md`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence

PREFIX = "whsec_"
SHORTEST_SECRET = 24
"""Bytes (specification, "Signature scheme")."""

RETRY_SECONDS = (5, 5 * 60, 30 * 60, 2 * 3600, 5 * 3600, 10 * 3600, 14 * 3600, 20 * 3600, 24 * 3600)
"""From each failed try to the next (specification, "Deliverability and reliability"): 10 tries over some 75 hours."""
JITTER = 0.1
"""The share of it by which a pause may be longer, so that what failed together is not tried together again."""


def key_of(secret: str) -> bytes:
    """Return the key that a secret stands for: base64 after `whsec_`, any other text as it is.

    Raises ValueError, without showing the secret, if it is no base64 or too short.
    """
    if secret.startswith(PREFIX):
        try:
            key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
        except binascii.Error:
            raise ValueError(f"is no base64 after {PREFIX}") from None
    else:
        key = secret.encode()
    if len(key) < SHORTEST_SECRET:
        raise ValueError(f"is too short: {SHORTEST_SECRET} bytes at least")
    return key


def derived_secret(pepper: bytes, project: str) -> str:
    """Return the secret of a project that policy gives none, made from a secret of the gateway's own."""
    key = hmac.new(pepper, b"call backs to project " + project.encode(), hashlib.sha256).digest()
    return PREFIX + base64.b64encode(key).decode()


def signed_headers(keys: Sequence[bytes], message_id: str, seconds: int, body: bytes) -> dict[str, str]:
    """Return the three headers of a message sent at `seconds` (Unix), with a signature by every key."""
    content = f"{message_id}.{seconds}.".encode() + body
    signatures = (base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode() for key in keys)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(seconds),
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }


def pause(tries: int, chance: float, asked: float | None = None) -> float | None:
    """Return the seconds to wait after so many failed tries, None if they were the last; `chance` is from 0 to 1.

    `asked` are the seconds that the receiver asked for. They make a pause longer, up to the longest of all, and never
    shorter: a receiver that asks for little would have used its tries up within minutes.
    """
    if not 0 < tries <= len(RETRY_SECONDS):
        return None
    seconds = max(RETRY_SECONDS[tries - 1], min(asked or 0.0, RETRY_SECONDS[-1]))
    return seconds * (1 + JITTER * chance)
