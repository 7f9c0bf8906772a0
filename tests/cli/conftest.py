"""A server of the module's own, and a realm of each test's own, as for the ledger itself."""

from __future__ import annotations

from tests.ledger.conftest import realm, server, store

__all__ = ["realm", "server", "store"]
