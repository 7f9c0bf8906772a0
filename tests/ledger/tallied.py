"""Calls that go together and are counted, as a test asks for them."""

from __future__ import annotations

from gateway.ledger.operation_counter import OperationCounter
from gateway.ledger.script_batching import ScriptBatcher
from gateway.ledger.store import Store
from tests.ledger.fake_server import bulk

DONE = bulk("0", "OK")
"""What a script says that did its operation, and had noted none before."""


def tallied(store: Store, doubts: list[bool] | None = None) -> ScriptBatcher:
    """Return what runs calls; `doubts` takes whether it is certain, whenever the store may be older."""

    def doubt(*, certainly: bool) -> None:
        if doubts is not None:
            doubts.append(certainly)

    return ScriptBatcher(store, OperationCounter("instances", "instance", store.losses, doubt))
