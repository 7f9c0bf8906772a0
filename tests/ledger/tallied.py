"""Calls that go together and are counted, as a test asks for them."""

from __future__ import annotations

from gateway.ledger.store import Store
from gateway.ledger.tally import Tally
from gateway.ledger.together import Together
from tests.ledger.fake_server import bulk

DONE = bulk("0", "OK")
"""What a script says that did its operation, and had noted none before."""


def tallied(store: Store, doubts: list[bool] | None = None) -> Together:
    """Return what runs calls; `doubts` takes whether it is certain, whenever the store may be older."""

    def doubt(*, certainly: bool) -> None:
        if doubts is not None:
            doubts.append(certainly)

    return Together(store, Tally("instances", "instance", store.losses, doubt))
