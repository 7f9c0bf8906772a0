"""Commands about keys on a store that runs and takes no writes: what reads answers, and a leaked key can be ended."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.cli.command import within
from tests.ledger.topologies import Server, running

TROUBLES = {
    "OOM": ("CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0"),
    "READONLY": ("REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE"),
    "NOREPLICAS": ("CONFIG SET min-replicas-to-write 1", "CONFIG SET min-replicas-to-write 0"),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that can be put into trouble."""
    server = Server(tmp_path_factory.mktemp("troubled") / "server")
    with running(server):
        yield server


@pytest.fixture
def place(server: Server, realm: str, tmp_path: Path) -> tuple[str, ...]:
    """The options of a fresh realm."""
    return ("--store", server.url, "--realm", realm, "--data", str(tmp_path / "data"))


@contextlib.contextmanager
def trouble(server: Server, kind: str) -> Iterator[None]:
    """Let the server take no writes meanwhile."""
    begin, end = TROUBLES[kind]
    server.call(*begin.split())
    try:
        yield
    finally:
        server.call(*end.split())


@contextlib.contextmanager
def busy(server: Server) -> Iterator[None]:
    """Let somebody's script run without end meanwhile."""
    server.call("CONFIG", "SET", "lua-time-limit", "1")

    def loop() -> None:
        with contextlib.suppress(redis.RedisError):
            server.call("EVAL", "while true do end", "0")

    looping = threading.Thread(target=loop)
    looping.start()
    try:
        while not _is_busy(server):
            time.sleep(0.01)
        yield
    finally:
        server.call("SCRIPT", "KILL")
        looping.join()


def _is_busy(server: Server) -> bool:
    try:
        server.call("PING")
    except redis.ResponseError as error:
        return str(error).startswith("BUSY")
    return False


@pytest.mark.parametrize("kind", sorted(TROUBLES))
def test_keys_are_listed_where_nothing_can_be_written(server: Server, place: tuple[str, ...], kind: str) -> None:
    """Commands that write say in one line what the store says; to list reads alone."""
    assert within("keys", "create", "--project", "team", *place).exit_code == 0
    with trouble(server, kind):
        listed = within("keys", "list", *place, "--json")
        assert (listed.exit_code, listed.stderr) == (0, "")
        assert [row["project"] for row in json.loads(listed.stdout)] == ["team"]
        refused = within("keys", "create", "--project", "team", *place)
        assert (refused.exit_code, len(refused.stderr.splitlines())) == (1, 1)
        assert kind in refused.stderr


def test_a_leaked_key_is_ended_out_of_memory(server: Server, place: tuple[str, ...]) -> None:
    """As what was spent is booked then: it can wait for nobody to free some."""
    assert within("keys", "create", "--project", "team", *place).exit_code == 0
    [row] = json.loads(within("keys", "list", *place, "--json").stdout)
    with trouble(server, "OOM"):
        done = within("keys", "revoke", row["id"], *place)
        assert (done.exit_code, done.stderr) == (0, f"revoked {row['id']} of project team\n")
        [row] = json.loads(within("keys", "list", *place, "--json").stdout)
        assert row["state"] == "revoked"


def test_listing_needs_no_pepper(place: tuple[str, ...], tmp_path: Path) -> None:
    """Nor is one made where keys are only looked at."""
    assert within("keys", "create", "--project", "team", *place).exit_code == 0
    elsewhere = tmp_path / "elsewhere"
    listed = within("keys", "list", *place, "--data", str(elsewhere), "--json")
    assert [row["project"] for row in json.loads(listed.stdout)] == ["team"]
    assert not elsewhere.exists()


def test_a_store_that_is_busy_is_not_to_be_started(server: Server, place: tuple[str, ...]) -> None:
    """It runs, and says what holds it up."""
    with busy(server):
        refused = within("keys", "list", *place)
    assert (refused.exit_code, len(refused.stderr.splitlines())) == (1, 1)
    assert "BUSY" in refused.stderr
    assert "Start it" not in refused.stderr
    assert "It runs" in refused.stderr
