"""The pepper: a secret outside the store, without which the hashed keys in it are worthless."""

from __future__ import annotations

import hmac
import os
import secrets
import tempfile
from pathlib import Path

from gateway.domain.route import Secret
from gateway.ledger.errors import PepperMismatch, StoreError
from gateway.ledger.names import Names
from gateway.ledger.store import Store

VARIABLE = "IMAGE_GATEWAY_PEPPER"
SHORTEST = 16


def load_pepper(data_dir: Path, value: Secret | str | None) -> bytes:
    """Return the environment's pepper if it has one, else that of the file `pepper` in the data directory.

    The file is made at first use, readable by its owner alone. StoreError if either cannot be used.
    """
    if isinstance(value, Secret):
        value = value.reveal()
    if value:
        if len(value) < SHORTEST:
            raise StoreError(f"{VARIABLE} is too short: {SHORTEST} characters at least")
        return value.encode()
    path = data_dir / "pepper"
    try:
        if not path.exists():
            _create(path)
        pepper = path.read_bytes().strip()
    except OSError as error:
        raise StoreError(f"pepper file {path}: {error.strerror}; or set {VARIABLE}") from error
    if len(pepper) < SHORTEST:
        raise StoreError(f"pepper file {path} is damaged: restore it from a backup, or set {VARIABLE}")
    return pepper


def _create(path: Path) -> None:
    """Write a new pepper whole or not at all; whoever comes first wins."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".pepper-")  # made with mode 0600
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_hex(32) + "\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            path.hardlink_to(temporary)
        except FileExistsError:
            return  # another process was faster; its pepper counts
    finally:
        temporary.unlink()


def digest(pepper: bytes, key: str) -> str:
    """Return HMAC-SHA256 of a key, in hexadecimal: all that is stored of it."""
    return hmac.digest(pepper, key.encode(errors="surrogatepass"), "sha256").hex()


async def check_pepper(store: Store, pepper: bytes, realm: str = "main") -> None:
    """Tie the store to this pepper at first use; PepperMismatch if it belongs to another. Raises LedgerUnavailable."""
    meta, mark = Names(realm).meta, digest(pepper, "pepper check")
    known = await store.execute("HGET", meta, "pepper_check")
    if known is None:  # only then is anything written: a store may take no writes for now
        await store.execute("HSETNX", meta, "pepper_check", mark)
        known = await store.execute("HGET", meta, "pepper_check")
    if not hmac.compare_digest(str(known), mark):
        raise PepperMismatch(
            f"the keys in store {store.where} were made with another pepper: set {VARIABLE} to that one, "
            "or restore the file `pepper` in the data directory"
        )
