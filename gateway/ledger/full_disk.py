"""A full disk, told where something of the embedded store has failed: it ends itself then, often without a word."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gateway.ledger.errors import StoreError
from gateway.ports import LedgerUnavailable

LEAST = 64 * 1024
"""Bytes: with fewer left, hardly anything can be written."""


def full_disk(directory: Path) -> str:
    """Return what to append to what is said, empty if the directory's disk has room or nobody can tell."""
    try:
        disk = os.statvfs(directory)
    except OSError:
        return ""
    return f". The disk of {directory} is full: make room there" if disk.f_bavail * disk.f_frsize < LEAST else ""


@contextmanager
def full_disk_told(directory: Path) -> Iterator[None]:
    """Have what goes wrong with the store meanwhile say so if the disk of its directory is full."""
    try:
        yield
    except (StoreError, LedgerUnavailable) as error:
        if told := full_disk(directory):
            raise StoreError(f"{error}{told}") from error
        raise
