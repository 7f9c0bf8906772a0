"""Responses wiring: the parts by which one process serves conversations and paths that go through, joined."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import NamedTuple

from gateway.domain.policy import Policy
from gateway.ledger.responses import RedisResponses
from gateway.ledger.store import Store
from gateway.observe.event import Observer
from gateway.ports import Ledger, Settlements
from gateway.ports.provider import Conditions
from gateway.providers.passthrough import AccountPassthrough
from gateway.responses.conversations import Conversations
from gateway.responses.following import Follower
from gateway.responses.passthrough import OtherEndpoints, PassthroughService


class Books(NamedTuple):
    """Where money is held, where holds end, and who is told."""

    ledger: Ledger
    settlements: Settlements
    observer: Observer


class ResponsesWiring:
    """`policy` returns the one that serves now. Whoever is not heard of for `silence` seconds is taken over from."""

    def __init__(  # noqa: PLR0917 - a composition names all its parts
        self,
        store: Store,
        realm: str,
        policy: Callable[[], Policy],
        books: Books,
        today: Callable[[], date],
        conditions: Conditions,
        silence: float,
    ) -> None:
        self._accounts = AccountPassthrough(policy().providers)
        ledger, settlements, observer = books
        responses = RedisResponses(store, realm, silence=silence, observer=observer)
        self._follower = Follower(responses, self._accounts, settlements, observer, policy, silence)
        self.conversations = Conversations(responses, self._accounts, self._follower, today, conditions)
        self.other_endpoints = OtherEndpoints(
            self.conversations, PassthroughService(self._accounts, ledger, settlements, observer)
        )

    def adopt(self, policy: Policy) -> None:
        """Note the accounts of another policy, even if nothing is asked of them under it."""
        self._accounts.adopt(policy.providers)

    async def run(self) -> None:
        """Follow what goes on in the background, until cancelled."""
        await self._follower.run()

    async def aclose(self) -> None:
        """Close connections."""
        await self._accounts.aclose()
