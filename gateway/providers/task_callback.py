"""Task callback: whether a call to one of our URLs is the provider's, by its signature.

A callback is a hint to look again and nothing more, so one that is not believed costs nothing but the wait for the
next look. Keys are read when work is submitted, and kept for a day.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import logging
import re
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from gateway.domain.json_path import first, found
from gateway.domain.task_profile import CallbackProfile, Verification
from gateway.on_demand import OnDemand
from gateway.ports.egress import Fetcher, Unfetchable
from gateway.ports.provider import UpstreamFailure
from gateway.providers.task_wire import TaskWire, parsed

if TYPE_CHECKING:
    from cryptography import exceptions
    from cryptography.hazmat.primitives.asymmetric import ed25519
else:  # few profiles sign with it
    exceptions = OnDemand("cryptography.exceptions")
    ed25519 = OnDemand("cryptography.hazmat.primitives.asymmetric.ed25519")

log = logging.getLogger("gateway.providers")

TOLERANCE = 300
"""Seconds by which a call's time may differ from ours: those of Standard Webhooks."""
KEPT = 86_400.0
"""Seconds for which keys are good without being read again."""
AGAIN = 60.0
"""Seconds before keys are asked for again that could not be read."""
_FETCH_SECONDS = 5.0
_MAX_KEYS = 64 * 1024
_UNIX = re.compile(r"[0-9]{1,12}", re.ASCII)
_ED25519 = 32


class Verifier:
    """What one account's callbacks are judged by. `clock` is Unix seconds."""

    def __init__(
        self,
        profile: CallbackProfile,
        wire: TaskWire,
        fetcher: Fetcher | None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._profile = profile
        self._wire = wire
        self._fetcher = fetcher
        self._clock = clock
        self._keys: Sequence[bytes] = ()
        self._read = float("-inf")
        self._asked = float("-inf")

    async def ready(self) -> bool:
        """Read what is needed to judge callbacks if it is not here; return whether it is, or none is needed."""
        if not self._profile.keys_url:
            return True
        now = self._clock()
        if now - self._read > KEPT:
            self._keys = ()
            if now - self._asked > AGAIN:
                self._asked = now
                self._keys = await self._fetched()
                self._read = now if self._keys else self._read
        return bool(self._keys)

    def new_secret(self) -> str | None:
        """Return a secret to send along with work, if that is how its callbacks are signed."""
        return secrets.token_hex(32) if self._profile.secret_field else None

    def believes(self, headers: Mapping[str, str], body: bytes, secret: str | None) -> bool:
        """Tell whether a call is the provider's; `headers` have lower-case names, `secret` went along with the work."""
        match self._profile.verify:
            case Verification.NONE:
                return True
            case Verification.STANDARD_WEBHOOKS:
                return self._standard_webhook(headers, body)
            case Verification.HMAC_SHA256:
                told = headers.get(self._profile.signature_header, "").removeprefix("sha256=").lower()
                return secret is not None and _equal(hmac.new(secret.encode(), body, hashlib.sha256).hexdigest(), told)
            case Verification.ED25519_JWKS:
                return self._ed25519(headers, body)

    def _standard_webhook(self, headers: Mapping[str, str], body: bytes) -> bool:
        stamp = headers.get("webhook-timestamp", "")
        if not self._is_now(stamp):
            return False
        message = b".".join((headers.get("webhook-id", "").encode(), stamp.encode(), body))
        told = [word.removeprefix("v1,") for word in headers.get("webhook-signature", "").split() if word[:3] == "v1,"]
        wanted = [base64.b64encode(hmac.digest(key, message, "sha256")).decode() for key in self._keys]
        return any(_equal(each, signature) for each in wanted for signature in told)

    def _ed25519(self, headers: Mapping[str, str], body: bytes) -> bool:
        profile = self._profile
        if not self._is_now(headers.get(profile.timestamp_header, "")):
            return False
        lines = [headers.get(name, "") for name in profile.signed_headers]
        message = "\n".join([*lines, hashlib.sha256(body).hexdigest()]).encode()
        try:
            signature = bytes.fromhex(headers.get(profile.signature_header, ""))
        except ValueError:
            return False
        return any(_signed(key, signature, message) for key in self._keys)

    def _is_now(self, stamp: str) -> bool:
        return bool(_UNIX.fullmatch(stamp)) and abs(self._clock() - int(stamp)) <= TOLERANCE

    async def _fetched(self) -> Sequence[bytes]:
        """Read the keys; nothing, with a word in the log, if they cannot be read."""
        url = self._profile.keys_url
        try:
            document = await self._below(url) if url.startswith("/") else await self._elsewhere(url)
        except (UpstreamFailure, Unfetchable) as error:
            log.warning("keys for callbacks cannot be read from %s: %s", url, error)
            return ()
        keys = keys_of(self._profile, document)
        if not keys:
            log.warning("there are no keys for callbacks at %s", url)
        return keys

    async def _below(self, path: str) -> object:
        return (await self._wire.get(self._wire.below(path))).document

    async def _elsewhere(self, url: str) -> object:
        if self._fetcher is None:
            return None
        answer = await self._fetcher.get(url, seconds=_FETCH_SECONDS, limit=_MAX_KEYS, trusted=self._wire.origins)
        try:
            return parsed(b"".join([chunk async for chunk in answer.chunks()]))
        finally:
            await answer.aclose()


def keys_of(profile: CallbackProfile, document: object) -> list[bytes]:
    """Return the keys that a document tells: a secret (`whsec_` and base64), or a set of Ed25519 keys (`keys[].x`)."""
    if profile.verify is Verification.STANDARD_WEBHOOKS:
        told = [first(document, profile.key)]
        keys = [_decoded(each.removeprefix("whsec_")) for each in told if isinstance(each, str)]
    else:
        keys = [_decoded(each) for each in found(document, "keys[*].x") if isinstance(each, str)]
        keys = [key for key in keys if len(key) == _ED25519]
    return [key for key in keys if key]


def _decoded(text: str) -> bytes:
    """Decode base64 of either alphabet, padded or not; nothing if it is none."""
    plain = text.strip().rstrip("=").replace("-", "+").replace("_", "/")
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError):
        return b""


def _signed(key: bytes, signature: bytes, message: bytes) -> bool:
    try:
        ed25519.Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except (exceptions.InvalidSignature, ValueError):
        return False
    return True


def _equal(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())
