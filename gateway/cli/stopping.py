"""How a command is stopped: SIGTERM, and a terminal that closes, end it as Ctrl-C does, with everything closed."""

from __future__ import annotations

import contextlib
import math
import signal
import time
from collections.abc import Iterator
from types import FrameType

from gateway.cli.options import Stopped

INTERRUPTED, TERMINATED = 130, 143
"""Exit statuses of what Ctrl-C ended, and of what SIGTERM did, or SIGHUP."""
AT_ONCE = 1.0
"""Seconds within which SIGTERM and SIGHUP are one: who ends a session may send both, and a wrapper what it got."""


@contextlib.contextmanager
def stoppable(words: str = "stopped") -> Iterator[None]:
    """End what is done meanwhile on Ctrl-C, SIGTERM and SIGHUP, at its next wait, by Stopped with these words.

    A signal that is ignored stays so, as SIGHUP does under nohup. Where SIGINT is blocked, as its supervisor has it in
    a worker, nothing is followed: SIGTERM ends that at once.
    """
    status, stopped = INTERRUPTED, -math.inf

    def stop(number: int, _frame: FrameType | None) -> None:
        nonlocal status, stopped
        if time.monotonic() < stopped + AT_ONCE:
            return
        status, stopped = TERMINATED, time.monotonic()
        if number == signal.SIGHUP:
            signal.signal(number, signal.SIG_IGN)  # a shell and the system may both tell of one terminal
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell's job in the background
            signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.raise_signal(signal.SIGINT)  # a loop knows what to do at that

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    follows = signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    ours = [number for number, handler in before.items() if follows and handler is not signal.SIG_IGN]
    for number in ours:
        signal.signal(number, stop)
    try:
        yield
    except KeyboardInterrupt:
        raise Stopped(words, status) from None
    finally:
        for number in ours:
            if signal.getsignal(number) is stop:  # what has served ignores it to its end
                signal.signal(number, before[number])
