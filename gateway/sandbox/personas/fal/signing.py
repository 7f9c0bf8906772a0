"""fal's webhook signatures: Ed25519 over four lines, with keys that anybody may read."""

from __future__ import annotations

import base64
import hashlib
import time

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_USER = "sandbox-user"


class Signer:
    """The key that webhooks are signed with, and an older one that is still published before it."""

    def __init__(self) -> None:
        self._older, self._current = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()

    def jwks(self) -> dict[str, object]:
        """Return the published set; `x` is base64url with its padding, as on the live service."""
        keys = [self._older, self._current]
        return {"keys": [{"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "x": _public(key)} for key in keys]}

    def headers(self, request_id: str, body: bytes, key: Ed25519PrivateKey | None = None) -> dict[str, str]:
        """Return the headers of a webhook as of now."""
        stamp = str(int(time.time()))
        lines = [request_id, _USER, stamp, hashlib.sha256(body).hexdigest()]
        signature = (key or self._current).sign("\n".join(lines).encode())
        return {
            "X-Fal-Webhook-Request-Id": request_id,
            "X-Fal-Webhook-User-Id": _USER,
            "X-Fal-Webhook-Timestamp": stamp,
            "X-Fal-Webhook-Signature": signature.hex(),
        }

    def forged(self, request_id: str, body: bytes) -> dict[str, str]:
        """Return headers that look right, signed with a key that nobody published."""
        return self.headers(request_id, body, Ed25519PrivateKey.generate())


def _public(key: Ed25519PrivateKey) -> str:
    return base64.urlsafe_b64encode(key.public_key().public_bytes_raw()).decode("ascii")
