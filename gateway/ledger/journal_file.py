"""Files of the journal: each belongs to the process that holds its lock, and to nobody once that is gone.

A lock dies with its process, however that ends. Who locks a file must look whether it is still the one of that name:
another may have removed it in between. Everything here blocks, and raises OSError.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import stat
from pathlib import Path

SUFFIX = ".jsonl"
REJECTED = ".rejected"
_ANY_NAME_TAKEN = 100

_sync = getattr(os, "fdatasync", os.fsync)


class JournalFile:
    """An open file that this process has locked; `size` is in bytes."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self.size = os.fstat(descriptor).st_size
        self._descriptor = descriptor

    @classmethod
    def create(cls, directory: Path, realm: str) -> JournalFile:
        """Return an empty file, under a new name, whose existence is on disk too."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for _ in range(_ANY_NAME_TAKEN):
            path = directory / f"{realm}.{secrets.token_hex(8)}{SUFFIX}"
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
            file = cls.take(path)
            if file is not None:  # nobody took the empty file for one that was left behind
                _sync_directory(directory)
                return file
        raise FileExistsError(f"no file of our own can be had in {directory}")

    @classmethod
    def take(cls, path: Path) -> JournalFile | None:
        """Return a file that nobody has locked; None if somebody has, or if it is gone or no file."""
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            here, there = os.fstat(descriptor), path.lstat()
            if stat.S_ISREG(here.st_mode) and here.st_ino == there.st_ino:
                return cls(path, descriptor)
        except (BlockingIOError, FileNotFoundError):
            pass  # somebody else has it, or had it
        except OSError:
            os.close(descriptor)
            raise
        os.close(descriptor)
        return None

    def read(self) -> bytes:
        """Return everything in it."""
        with os.fdopen(os.dup(self._descriptor), "rb") as file:
            file.seek(0)
            return file.read()

    def append(self, data: bytes) -> None:
        """Return once the data is on disk; if it cannot be, the file is as before."""
        try:
            rest, at = memoryview(data), self.size
            while rest:
                written = os.pwrite(self._descriptor, rest, at)
                rest, at = rest[written:], at + written
            _sync(self._descriptor)
        except OSError:
            with contextlib.suppress(OSError):  # what stays beyond `size` is overwritten, or rejected when it is read
                os.ftruncate(self._descriptor, self.size)
            raise
        self.size += len(data)

    def set_aside(self, data: bytes) -> Path:
        """Keep bytes that cannot be believed in a file beside it; return that file's path."""
        path = self.path.with_name(self.path.name + REJECTED)
        descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            _sync(file.fileno())
        return path

    def empty(self) -> None:
        """Leave nothing in it."""
        os.ftruncate(self._descriptor, 0)
        os.fsync(self._descriptor)
        self.size = 0

    def remove(self) -> None:
        """Delete it, and let go of it."""
        try:
            self.path.unlink(missing_ok=True)
        finally:
            self.close()

    def close(self) -> None:
        """Let go of it: whoever locks it next has it."""
        os.close(self._descriptor)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
