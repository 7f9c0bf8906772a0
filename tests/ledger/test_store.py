"""Store URLs and servers that won't do: one clear line each, and no password in it."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from gateway.ledger.errors import StoreError
from gateway.ledger.redis_ledger import RedisLedger
from gateway.ledger.store import Store, store_url
from gateway.ports import LedgerUnavailable


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("redis+sentinel://h/0", "not supported yet"),
        ("redis+cluster://h/0", "not supported yet"),
        ("http://user:hunter2@h", "must be redis://"),
        ("", "must be redis://"),
        ("redis", "must be redis://"),
    ],
)
def test_an_unusable_url_is_one_clear_line(url: str, words: str, tmp_path: Path) -> None:
    """The schemes that work are named; a password is not."""
    with pytest.raises(StoreError, match=words) as caught, store_url(url, tmp_path):
        pass
    assert "\n" not in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_usable_url_passes_unchanged(tmp_path: Path) -> None:
    """Servers of one's own need no data directory."""
    for url in ("redis://h:1/0", "rediss://u:p@h", "unix:///run/x.sock"):
        with store_url(url, tmp_path / "none") as passed:
            assert passed == url
    assert not (tmp_path / "none").exists()


async def test_embedded_is_a_server_that_passes_the_check(tmp_path: Path) -> None:
    """The default needs nothing but a directory."""
    with store_url("embedded:", tmp_path) as url:
        store = Store(url)
        await store.check()
        await RedisLedger(store).ping()
        await store.aclose()


@pytest.mark.parametrize("url", ["redis://user:hunter2@127.0.0.1:1/0", "unix:///nowhere.sock?password=hunter2"])
async def test_a_server_that_does_not_answer_is_one_clear_line(url: str) -> None:
    """The message says where and what to do, without the password."""
    store = Store(url)
    with pytest.raises(StoreError, match="embedded:") as caught:
        await store.check()
    assert "hunter2" not in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(LedgerUnavailable):
        await RedisLedger(store).ping()
    await store.aclose()


async def test_a_wrong_option_in_the_url_is_refused() -> None:
    """What the client library does not understand is reported as a matter of the URL."""
    with pytest.raises(StoreError, match="store URL"):
        Store("redis://h/0?socket_timeout=soon")


async def test_an_evicting_server_is_warned_of(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """A memory limit with an evicting policy may lose the ledger: said at the start."""
    await store.execute("CONFIG", "SET", "maxmemory", "100mb")
    await store.execute("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    with caplog.at_level(logging.WARNING):
        await store.check()
    assert "noeviction" in caplog.text


async def test_another_schema_is_refused(ledger: RedisLedger, store: Store) -> None:
    """A ledger written by a later version is not touched."""
    await store.execute("HSET", ledger._names.meta, "schema", "9")
    with pytest.raises(StoreError, match="schema 9"):
        await ledger.open()
