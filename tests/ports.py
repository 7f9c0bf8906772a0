"""Ports that stay free until they are used: each process of a test run takes them in turn from a range of its own."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import socket
from collections.abc import Iterator

LOWEST, HIGHEST = 12_000, 22_000
"""Below those that the kernel lends to outgoing connections (32,768 and up)."""
BUS = 10_000
"""What a Redis Cluster adds to a node's port for its bus: up to 32,000, where nothing else of the tests is."""


def _ports() -> Iterator[int]:
    """The ports of this process, from anywhere on, round and round: two runs beside each other rarely meet."""
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    own = (HIGHEST - LOWEST) // processes
    lowest = LOWEST + own * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    start = random.randrange(own)
    return itertools.cycle([lowest + (start + step) % own for step in range(own)])


_NEXT = _ports()


def free_port() -> int:
    """A port that nobody uses now, with room for a cluster's bus, and that no other test is given."""
    for port in _NEXT:
        with (
            contextlib.suppress(OSError),
            socket.create_server(("127.0.0.1", port)),
            socket.create_server(("127.0.0.1", port + BUS)),
        ):
            return port
    raise AssertionError("unreachable: the ports go round")
