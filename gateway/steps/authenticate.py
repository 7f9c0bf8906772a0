"""Authenticate: the key the client sent becomes a Caller."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.domain.caller import Caller
from gateway.domain.errors import InvalidApiKey, Unavailable
from gateway.ports import Keyring, LedgerUnavailable
from gateway.ports.envelope import Envelope


def sent_key(headers: Mapping[str, str]) -> str:
    """Return what the client sent as its key, empty if it sent none."""
    scheme, _, value = headers.get("authorization", "").partition(" ")
    key = value.strip() if scheme.lower() == "bearer" else ""
    return key or headers.get("api-key", "").strip()


async def authenticate(headers: Mapping[str, str], keyring: Keyring, envelope: Envelope | None = None) -> Caller:
    """Return who calls, by `Authorization: Bearer` or `api-key`; InvalidApiKey for all that is not a live key.

    Unavailable for a key that is not in memory while the store is away: an SDK asks again, where a 401 would end it.
    The envelope takes note of the key's mark, by which the keyring knows who sends the same headers again.
    """
    key = sent_key(headers)
    if not key:
        raise InvalidApiKey(
            "You didn't provide an API key. Send it as `Authorization: Bearer igw_…` or `api-key: igw_…`."
        )
    mark = keyring.mark(key)
    try:
        caller = keyring.known(mark) or await keyring.find(key)
    except LedgerUnavailable as error:
        message = "The ledger is not available, so this key cannot be looked up; nothing was spent. Please try again."
        raise Unavailable(message, code="ledger_unavailable", retry_after=2) from error
    if caller is None:
        raise InvalidApiKey(
            "Incorrect API key provided. Ask your platform team for a gateway key (it starts with igw_)."
        )
    if envelope is not None:
        envelope.mark = mark
    return caller
