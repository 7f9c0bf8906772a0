"""Preparing: an optional capability of providers: building a call before it may be sent."""

from __future__ import annotations

from typing import Protocol, TypeGuard

from gateway.ports.provider import Call


class Preparing(Protocol):
    """A provider that can make a call ready before it may be sent: while money is held for it, say."""

    def prepare(self, call: Call) -> None:
        """Work out what `send` will need, and keep it in the call; take nothing that must be given back.

        Nothing is sent. What cannot be made ready is left to `send`, and raised there if it is wrong.
        """


def is_preparing(provider: object) -> TypeGuard[Preparing]:
    """Tell whether a provider can make calls ready; most kinds cannot."""
    return hasattr(provider, "prepare")
