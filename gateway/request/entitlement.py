"""Entitlement: whether who waits may still be served, by the keys and the policy of now, and how the wait goes on.

Whoever waits holds no slot and has sent nothing, so that a policy which changes meanwhile, or prices and models of
another day, can be applied from the start, as if the request came now.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Protocol

from gateway.domain.caller import Caller
from gateway.domain.errors import InvalidApiKey, Unavailable, ledger_unavailable
from gateway.domain.policy import Policy, Project
from gateway.images.own_images import WithOwnImages
from gateway.ports import Body, LedgerUnavailable
from gateway.ports.provider import Provider
from gateway.request.exchange import Admitted, Exchange
from gateway.routing.decision import project_of

Providers = Mapping[str, Provider]


class Superseded(Unavailable):
    """The policy or the day changed while a request waited: it is to be decided anew. No client is shown this."""

    default_code = "policy_changed"

    def __init__(self, message: str = "The policy changed while this waited.") -> None:
        super().__init__(message, retry_after=0.0)


class Understands(Protocol):
    """Decides what a body asks for under a policy."""

    async def __call__(
        self, exchange: Exchange, caller: Caller, project: Project, policy: Policy, body: Body
    ) -> Admitted:
        """Return the request, classified, priced and ranked; raises the error to show."""


@dataclass(frozen=True, slots=True)
class Entitlement:
    """`current` returns the policy and the providers that serve now, `today` the date in UTC.

    `lives` tells whether a key, named by its id, may be used now; it raises LedgerUnavailable where nobody can tell.
    """

    current: Callable[[], tuple[Policy, Providers]]
    today: Callable[[], date]
    lives: Callable[[str], Awaitable[bool]]
    understood: Understands

    async def project(self, caller: Caller, policy: Policy) -> Project:
        """Return the caller's project; InvalidApiKey or Forbidden if key or project are there no more."""
        if not await self.still(caller.key_id):
            message = f"The key {caller.key_id} was revoked or has expired; nothing more is sent for it."
            raise InvalidApiKey(message, code="key_revoked")
        return project_of(caller, policy)

    async def still(self, key_id: str) -> bool:
        """Tell whether a key may be used now; Unavailable where nobody can tell."""
        try:
            return await self.lives(key_id)
        except LedgerUnavailable as error:
            raise ledger_unavailable() from error

    async def check(self, admitted: Admitted) -> None:
        """Raise what `project` raises, or Superseded if policy or day is another than the request was admitted by."""
        policy, _ = self.current()
        await self.project(admitted.caller, policy)
        if admitted.policy is not policy or admitted.day != self.today():
            raise Superseded

    async def renewed(self, admitted: Admitted) -> tuple[Admitted, Providers]:
        """Return a request that waits as today's policy has it, and the providers; raises the error to show."""
        policy, providers = self.current()
        project, body = await self.project(admitted.caller, policy), admitted.body
        if isinstance(body, WithOwnImages):
            body = body.body
        return await self.understood(admitted.exchange, admitted.caller, project, policy, body), providers
