"""Waiters: whether anyone can still receive the answer; if not, no further calls are paid for."""

from __future__ import annotations

from gateway.request.admission import Leaving
from gateway.request.duplicates import Shared
from gateway.request.exchange import Exchange
from gateway.request.relay import Relay


class Waiters:
    """Who waits for one request: its client alone, or others who may join it or ask for its answer later."""

    __slots__ = ("_asked_again", "_relay", "left")

    def __init__(self, exchange: Exchange, relay: Relay, shared: Shared | None) -> None:
        joined = shared is not None or exchange.task is not None
        self._asked_again = joined or exchange.orphan_name is not None
        self._relay = relay
        self.left: Leaving | None = None if joined else relay.until_taken
        """Returns once the client is gone; None if that ends no waiting."""

    def gone(self) -> bool:
        """Tell whether the client has left and nobody else can get the answer."""
        return self._relay.client_gone and not self._asked_again
