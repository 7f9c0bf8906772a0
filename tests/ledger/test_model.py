"""The ledger against a plain model of it: whatever the order of events, the books are right."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from gateway.ledger.embedded import embedded_store
from tests.ledger.model import LedgerModel

FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)


def run(server: str, clock: Path | None, examples: int, steps: int) -> None:
    """Let hypothesis look for a history after which the two disagree."""

    class Machine(LedgerModel):
        """The model, on this server."""

    def shift(seconds: int) -> None:
        assert clock is not None
        written = clock.with_suffix(".new")
        written.write_text(f"{seconds:+d}s\n")
        written.rename(clock)  # never half written

    Machine.server = server
    Machine.shift = staticmethod(shift) if clock is not None else None
    checks = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )
    run_state_machine_as_test(Machine, settings=checks)


@pytest.fixture
def movable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Path]]:
    """A server whose clock is what a file says."""
    if FAKETIME is None:
        pytest.skip("libfaketime is not installed")
    clock = tmp_path / "clock"
    clock.write_text("+0s\n")
    with monkeypatch.context() as patch:
        patch.setenv("LD_PRELOAD", str(FAKETIME))
        patch.setenv("FAKETIME_TIMESTAMP_FILE", str(clock))
        patch.setenv("FAKETIME_NO_CACHE", "1")
        patch.setenv("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        patch.setenv("FAKETIME_DONT_RESET", "1")
        store = embedded_store(tmp_path / "data")
        url = store.__enter__()
    try:
        yield url, clock
    finally:
        store.__exit__(None, None, None)


def test_the_ledger_agrees_with_its_model(server: str) -> None:
    """Random histories of holds, ends, lapses, crashes and lost writes leave both with the same books."""
    run(server, None, examples=50, steps=30)


def test_it_agrees_whatever_the_clock_does(movable: tuple[str, Path]) -> None:
    """The same while the server's clock jumps by days, forwards and back."""
    run(*movable, examples=30, steps=30)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_ledger_agrees_with_its_model_at_length(server: str) -> None:
    """Two thousand histories of fifty steps."""
    run(server, None, examples=2000, steps=50)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_it_agrees_whatever_the_clock_does_at_length(movable: tuple[str, Path]) -> None:
    """Two thousand histories of fifty steps under a clock that jumps."""
    run(*movable, examples=2000, steps=50)
