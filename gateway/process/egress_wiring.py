"""Egress wiring: all that leaves for URLs which others chose, and what comes back from them, joined for one process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from gateway.callbacks.hints import HintBoard
from gateway.callbacks.sending import CallbackSender
from gateway.domain.policy import Policy
from gateway.domain.webhook import derived_secret, key_of
from gateway.egress.fetcher import SafeFetcher
from gateway.egress.guard import Guard
from gateway.ledger.batches import RedisBatches
from gateway.ledger.callbacks import RedisCallbacks
from gateway.ledger.hints import RedisMailboxes
from gateway.ledger.store import Store
from gateway.observe.event import BatchMoved, Observer
from gateway.observe.tracing import Tracing
from gateway.ports.provider import ProviderServices
from gateway.ports.tasks import Callbacks


class EgressSettings(Protocol):
    """Where a gateway lies in its store, and under which URL others reach it."""

    @property
    def realm(self) -> str:
        """The name of everything in the store."""

    @property
    def public_url(self) -> str | None:
        """The URL; None if it is not known."""

    @property
    def tracing(self) -> Tracing | None:
        """What makes spans; None where nothing is traced."""


class EgressWiring:
    """`policy` returns the policy that serves now."""

    def __init__(
        self, place: EgressSettings, policy: Callable[[], Policy], store: Store, pepper: bytes, observer: Observer
    ) -> None:
        self._policy = policy
        self._pepper = pepper
        self._observer = observer
        self.guard = Guard(lambda: policy().egress, public_url=place.public_url)
        self._links = SafeFetcher(self.guard)
        # Of its own: names that clients choose, and nobody answers for, keep no paid image waiting for a lookup.
        self._clients = SafeFetcher(self.guard)
        self.hints = HintBoard(place.public_url, pepper, RedisMailboxes(store, place.realm, observer=observer))
        self.callbacks: Callbacks = RedisCallbacks(store, place.realm, observer=observer)
        self._batches = RedisBatches(store, place.realm, observer=observer)
        posting = self._clients if place.tracing is None else place.tracing.callbacks(self._clients)
        self._sender = CallbackSender(self.callbacks, posting, self._keys, observer)

    @property
    def services(self) -> ProviderServices:
        """What providers need of the world."""
        return ProviderServices(self._links, self.hints, self._batches, self._batch_told, self._clients)

    def _batch_told(self, provider: str, status: str, requests: int) -> None:
        self._observer.emit(BatchMoved(provider, status, requests))

    async def run(self) -> None:
        """Deliver callbacks, and share what providers say with other gateways, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._sender.run())
            group.create_task(self.hints.run())

    async def aclose(self) -> None:
        """Close connections."""
        await self._links.aclose()
        await self._clients.aclose()

    def _keys(self, project: str) -> Sequence[bytes]:
        known = self._policy().projects.get(project)
        secrets = [secret.reveal() for secret in known.callback_secrets] if known else []
        return [key_of(secret) for secret in secrets or [derived_secret(self._pepper, project)]]
