"""Identity: which ledgers this data directory has served, so that one that was emptied is not taken for a new one."""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
from pathlib import Path

from gateway.ledger.errors import StoreError

FILE, LOCK = "ledgers.json", "ledgers.lock"


def is_known(data_dir: Path, where: str, realm: str) -> bool:
    """Tell whether this realm of this store (a URL without password) was served from here before."""
    return _name(where, realm) in _read(data_dir)


def is_another(data_dir: Path, where: str, realm: str, store: str) -> bool:
    """Tell whether this realm of `store` was served from here too, and is not the ledger that `where` has.

    One store may have several URLs, and move: its ledger has the same epoch under each of them. StoreError.
    """
    if store == where:
        return False
    known = _read(data_dir)
    its = known.get(_name(store, realm))
    return its is not None and its != known.get(_name(where, realm))


def remember(data_dir: Path, where: str, realm: str, epoch: str) -> None:
    """Note a ledger's epoch; StoreError if the data directory cannot be written. Blocks."""
    name = _name(where, realm)
    if _read(data_dir).get(name) == epoch:
        return
    try:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        with (data_dir / LOCK).open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # another gateway may note its own store just now
            _write(data_dir, _read(data_dir) | {name: epoch})
    except OSError as error:
        raise StoreError(f"the data directory {data_dir} cannot be written: {error.strerror}") from error


def _write(data_dir: Path, known: dict[str, str]) -> None:
    descriptor, name = tempfile.mkstemp(dir=data_dir, prefix=".ledgers-")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(known, file, indent=2)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(data_dir / FILE)
    finally:
        Path(name).unlink(missing_ok=True)


def _name(where: str, realm: str) -> str:
    return f"{where} {realm}"


def _read(data_dir: Path) -> dict[str, str]:
    path = data_dir / FILE
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise StoreError(
            f"{path} cannot be read: {error}; mend it, or remove it if every ledger is known to be there"
        ) from error
    if not isinstance(known, dict):
        raise StoreError(f"{path} is not what it should be; remove it if every ledger is known to be there")
    return {str(name): str(epoch) for name, epoch in known.items()}
