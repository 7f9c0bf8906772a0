"""Idempotency: what ties a request to the one it repeats."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Binding:
    """What a hold is bound to. `name` is 64 hex digits made of project, API key and what the client calls the request.

    `fingerprint` (64 hex digits) stands for all that the request asks for. With `claim` nothing is bound: the request
    says that it repeats an earlier one, and takes that one over if its client has left it behind.
    """

    name: str
    fingerprint: str
    claim: bool = False


@dataclass(frozen=True, slots=True)
class Bound:
    """Nothing was held: the name belongs to an earlier request; `same` tells whether that one asked for the same."""

    request_id: str
    same: bool
