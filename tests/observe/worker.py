"""A worker process: counts `sys.argv[1]` finished requests and one that is under way, then waits to be told to end."""

from __future__ import annotations

import sys

from gateway.observe.event import RequestStarted
from gateway.observe.metrics import Metrics
from gateway.observe.scrape import new_registry
from tests.observe.samples import FINISHED, HOLD_ENDED, LABELS


def main() -> None:
    """Count, say so, and wait."""
    metrics = Metrics(new_registry(), LABELS)
    for _ in range(int(sys.argv[1])):
        metrics.emit(RequestStarted("generate"))
        metrics.emit(HOLD_ENDED)
        metrics.emit(FINISHED)
    metrics.emit(RequestStarted("generate"))
    sys.stdout.write("counted\n")
    sys.stdout.flush()
    sys.stdin.read()


main()
