"""Authenticate: the key the client sent becomes a Caller."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.domain.caller import Caller
from gateway.domain.errors import InvalidApiKey
from gateway.ports import Keyring
from gateway.ports.envelope import Envelope


async def authenticate(headers: Mapping[str, str], keyring: Keyring, envelope: Envelope | None = None) -> Caller:
    """Return who calls, by `Authorization: Bearer` or `api-key`; InvalidApiKey for all that is not a live key.

    The envelope takes note of the key's mark, by which the keyring knows who sends the same headers again.
    """
    scheme, _, value = headers.get("authorization", "").partition(" ")
    key = value.strip() if scheme.lower() == "bearer" else ""
    key = key or headers.get("api-key", "").strip()
    if not key:
        raise InvalidApiKey(
            "You didn't provide an API key. Send it as `Authorization: Bearer igw_…` or `api-key: igw_…`."
        )
    mark = keyring.mark(key)
    caller = keyring.known(mark) or await keyring.find(key)
    if caller is None:
        raise InvalidApiKey(
            "Incorrect API key provided. Ask your platform team for a gateway key (it starts with igw_)."
        )
    if envelope is not None:
        envelope.mark = mark
    return caller
