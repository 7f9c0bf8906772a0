"""Which ledgers a data directory has served."""

from __future__ import annotations

import resource
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gateway.ledger.errors import StoreError
from gateway.ledger.identity import FILE, LOCK, is_known, remember


def test_a_ledger_is_known_once_it_was_served(tmp_path: Path) -> None:
    """By store and realm, and over a restart."""
    assert not is_known(tmp_path / "new", "redis://a", "main")
    remember(tmp_path / "new", "redis://a", "main", "e1")
    remember(tmp_path / "new", "redis://a", "main", "e2")
    assert is_known(tmp_path / "new", "redis://a", "main")
    assert not is_known(tmp_path / "new", "redis://a", "other")
    assert not is_known(tmp_path / "new", "redis://b", "main")


@pytest.mark.parametrize("junk", ["", "{", "[1]", '"x"'])
def test_a_damaged_file_is_said_and_not_guessed_at(tmp_path: Path, junk: str) -> None:
    """Taking an emptied ledger for a new one would forget what was spent."""
    (tmp_path / FILE).write_text(junk)
    with pytest.raises(StoreError, match=FILE):
        is_known(tmp_path, "redis://a", "main")


def test_a_disk_that_takes_nothing_gets_no_litter(tmp_path: Path) -> None:
    """Whoever is started again and again on a full one leaves no file each time."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        with pytest.raises(StoreError, match="cannot be written"):
            remember(tmp_path, "redis://a", "main", "e1")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path.name for path in tmp_path.iterdir()] == [LOCK]


def test_several_that_begin_at_once_are_all_known(tmp_path: Path) -> None:
    """Gateways of several stores on one data directory write the same file: none loses what another has noted."""
    stores = [f"redis://{n}" for n in range(40)]
    with ThreadPoolExecutor(len(stores)) as threads:
        list(threads.map(lambda store: remember(tmp_path, store, "main", "e1"), stores))
    assert [store for store in stores if not is_known(tmp_path, store, "main")] == []
