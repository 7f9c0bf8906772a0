"""The embedded server's process, as far as this system tells of one. Linux does; elsewhere nothing is known of it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import sys
import time
from dataclasses import dataclass
from pathlib import Path

PAUSE_SECONDS = 0.02


def is_at_work(path: Path) -> bool:
    """Tell whether the server of this socket runs, or waits for its disk, though it may say nothing.

    False for one that stands still or waits to be asked, and where the system does not tell.
    """
    pid = _pid_at(path)
    try:
        state = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return False
    return state in {"R", "D"}


def _pid_at(path: Path) -> int | None:
    if sys.platform != "linux":
        return None
    try:
        with socket.socket(socket.AF_UNIX) as peer:
            peer.setblocking(False)
            peer.connect(str(path))
            pid, _, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    except OSError:
        return None
    return int(pid)


@dataclass(frozen=True, slots=True)
class ServerProcess:
    """A server that was seen in a directory; it is known again wherever that has been moved, or once it is removed."""

    pid: int
    directory: os.stat_result

    @classmethod
    def at(cls, path: Path) -> ServerProcess | None:
        """Return the one that listens at a socket in its directory; None where the system does not tell."""
        pid = _pid_at(path)
        return None if pid is None else cls(pid, path.parent.stat())

    def ended(self, seconds: float) -> bool:
        """End it in an orderly way, within so many seconds; tells whether it is gone."""
        deadline = time.monotonic() + seconds
        if self._lives():
            with contextlib.suppress(OSError):  # it is just gone, or not ours to end
                os.kill(self.pid, signal.SIGTERM)
        while self._lives():
            if time.monotonic() > deadline:
                return False
            time.sleep(PAUSE_SECONDS)
        return True

    def _lives(self) -> bool:
        """Another process may have its id by now, and works elsewhere."""
        try:
            return os.path.samestat(Path(f"/proc/{self.pid}/cwd").stat(), self.directory)
        except OSError:
            return False
