"""Open files: a warning while there are some left, since connections beyond the last one end without a word."""

from __future__ import annotations

import logging
import resource
import time
from typing import Final

log = logging.getLogger("gateway.web")

_WARNED_FROM: Final = 0.9
"""The part of all files that may be open."""
_LOG_SECONDS: Final = 60.0
_REMEDY: Final = "raise the limit: LimitNOFILE= of a unit, --ulimit nofile= of a container, ulimit -n of a shell"


class OpenFiles:
    """Those of this process, as the numbers of its connections tell of them: each is the lowest that was free."""

    def __init__(self) -> None:
        self._most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._warned_from = float("inf") if self._most == resource.RLIM_INFINITY else self._most * _WARNED_FROM
        self._log_again = 0.0

    def note(self, descriptor: int) -> None:
        """Take note of a connection's number; say so, once a minute at most, if few are left."""
        if descriptor < self._warned_from:
            return
        now = time.monotonic()
        if now >= self._log_again:
            self._log_again = now + _LOG_SECONDS
            message = "%d of %d files are open, and connections beyond that end without an answer; %s"
            log.warning(message, descriptor + 1, self._most, _REMEDY)
