"""One server per module, and a realm of its own for each test."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterator

import pytest

from gateway.ledger.embedded import embedded_store
from gateway.ledger.redis_ledger import RedisLedger
from gateway.ledger.store import Store
from tests.ledger.topologies import Cluster, redis_cluster


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A running server's URL."""
    with embedded_store(tmp_path_factory.mktemp("store")) as url:
        yield url


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three masters."""
    with redis_cluster(tmp_path_factory.mktemp("cluster")) as nodes:
        yield nodes


@pytest.fixture
def realm() -> str:
    """A realm that nothing else uses."""
    return secrets.token_hex(6)


@pytest.fixture
async def store(server: str) -> AsyncIterator[Store]:
    """Connections to the module's server; patient, for a test machine may be busy."""
    store = Store(server, deadline=10.0, patience=30.0)
    yield store
    await store.aclose()


@pytest.fixture
async def ledger(store: Store, realm: str) -> AsyncIterator[RedisLedger]:
    """A ledger whose leases outlive the test; its background loop does not run."""
    ledger = RedisLedger(store, realm)
    yield ledger
    await ledger.aclose()
