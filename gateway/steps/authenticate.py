"""Authenticate: the key the client sent becomes a Caller."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.domain.caller import Caller
from gateway.domain.errors import InvalidApiKey
from gateway.ports import Keyring


async def authenticate(headers: Mapping[str, str], keyring: Keyring) -> Caller:
    """Return who calls, by `Authorization: Bearer` or `api-key`; InvalidApiKey for all that is not a live key."""
    scheme, _, value = headers.get("authorization", "").partition(" ")
    key = value.strip() if scheme.lower() == "bearer" else ""
    key = key or headers.get("api-key", "").strip()
    if not key:
        raise InvalidApiKey(
            "You didn't provide an API key. Send it as `Authorization: Bearer igw_…` or `api-key: igw_…`."
        )
    caller = await keyring.find(key)
    if caller is None:
        raise InvalidApiKey(
            "Incorrect API key provided. Ask your platform team for a gateway key (it starts with igw_)."
        )
    return caller
