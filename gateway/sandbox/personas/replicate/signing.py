"""Replicate's webhook signatures: HMAC-SHA256 over id, time and body, as Standard Webhooks has it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import time

_PREFIX = "whsec_"


class Signer:
    """The account's one secret, which it can read."""

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(24)

    @property
    def secret(self) -> str:
        """The secret in its published form."""
        return _PREFIX + base64.b64encode(self._secret).decode("ascii")

    def headers(self, message_id: str, body: bytes) -> dict[str, str]:
        """Return the headers of a webhook as of now."""
        return _headers(self._secret, message_id, body)

    @staticmethod
    def forged(message_id: str, body: bytes) -> dict[str, str]:
        """Return headers that look right, signed with another secret."""
        return _headers(secrets.token_bytes(24), message_id, body)


def _headers(secret: bytes, message_id: str, body: bytes) -> dict[str, str]:
    stamp = str(int(time.time()))
    digest = hmac.new(secret, f"{message_id}.{stamp}.".encode() + body, hashlib.sha256).digest()
    return {
        "webhook-id": message_id,
        "webhook-timestamp": stamp,
        "webhook-signature": f"v1,{base64.b64encode(digest).decode('ascii')}",
    }
