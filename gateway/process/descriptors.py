"""Descriptors: how many files and connections the system lets this process have open."""

from __future__ import annotations

import logging
import resource

log = logging.getLogger("gateway.serve")

FOR_EACH = 2
"""Connections of a request in flight: the client's, and the provider's."""
BESIDE = 200
"""For everything else: the store, listening sockets, files."""


def raise_limit(requests: int) -> int:
    """Allow as many as the system lets a process allow itself, and return that; say so if `requests` may need more."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if most != resource.RLIM_INFINITY and most < requests * FOR_EACH + BESIDE:
        fit = max((most - BESIDE) // FOR_EACH, 0)
        message = "the system allows %d open files, enough for %d requests in flight; --max-requests is %d"
        log.info(message, most, fit, requests)
    return most
