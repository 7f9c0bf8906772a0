"""Repetition: what ties a request to an earlier one, made of who asks and of what is asked for."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from gateway.domain.caller import Caller
from gateway.domain.idempotency import Binding
from gateway.ports import Body, Inbound


class Ties(NamedTuple):
    """What the hold is bound to, and what a retry without a key calls the request by; None where nothing repeats it."""

    binding: Binding | None
    orphan_name: str | None


def ties(
    inbound: Inbound, caller: Caller, body: Body, *, key: str | None, retries: int | None, later: bool = False
) -> Ties:
    """Return how a request may be repeated: by the client's own key, or by the retries that its library announces.

    One that is answered `later`, by a task, is repeated by none that is answered at once.

    A name is of one project and one API key, so nobody can ask for another's answer. Whoever repeats himself without
    a key says so (`retries` above 0) and takes over what a client left behind: alike requests at once stay apart.
    """
    if key is None and retries is None:
        return Ties(None, None)
    assert body.fingerprint is not None, "taken wherever one of the two headers is there"
    headers = inbound.headers
    asked = (
        str(inbound.operation),
        inbound.path_model,
        headers.get("x-gateway-job-type"),
        headers.get("x-gateway-lane"),
    )
    fingerprint = digest(*asked, body.encoding, body.fingerprint, *(["later"] if later else []))
    return tied(caller, fingerprint, key=key, retries=retries)


def tied(caller: Caller, fingerprint: str, *, key: str | None, retries: int | None) -> Ties:
    """Return the same for whatever has this fingerprint, which stands for all that is asked for."""
    if key is None and retries is None:
        return Ties(None, None)
    if key is not None:
        return Ties(Binding(digest(caller.project, caller.key_id, "key", key), fingerprint), None)
    name = digest(caller.project, caller.key_id, "retry", fingerprint)
    return Ties(Binding(name, fingerprint, claim=True) if retries else None, name)


def digest(*words: str | None) -> str:
    """Return 64 hex digits for a list of words; no two different lists read the same."""
    told = [b"-" if word is None else b"%d:%b" % (len(data := word.encode()), data) for word in words]
    return hashlib.sha256(b"".join(told)).hexdigest()
