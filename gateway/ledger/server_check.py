"""Whether the servers of a store are fit for money: new enough, losing nothing, and open to all that is to be done."""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from gateway.ledger import script
from gateway.ledger.errors import LedgerRefused, StoreError

log = logging.getLogger(__name__)

OLDEST = (7, 0)
"""The oldest server version that knows the flags of scripts (`#!lua flags=…`)."""

Ask = Callable[..., Awaitable[Any]]
"""Sends a command to one server and returns its reply; raises LedgerUnavailable."""


async def check_servers(where: str, servers: Mapping[str, Ask], written: str | None) -> None:
    """Check every server, by its name; StoreError if one is too old, a warning for each thing that is unwise.

    StoreError too if this user may not do there all that is done with names such as `written`; None: it only reads.
    """
    unwise: dict[str, list[str]] = {}
    for name, ask in servers.items():
        version = (await _info(ask, "server")).get("redis_version", "0")
        if tuple(int(part) for part in re.findall(r"\d+", version)[:2]) < OLDEST:
            needed = ".".join(map(str, OLDEST))
            raise StoreError(f"store {where}: {name} is version {version}; {needed} or newer is needed")
        if written is not None and (lacking := await ask("EVAL", script.RIGHTS.source, "0", written)):
            raise StoreError(f"store {where}: {name}: {told_rights(lacking, written)}")
        for warning in await _warnings(ask):
            unwise.setdefault(warning, []).append(name)
    for warning, names in unwise.items():
        log.warning("store %s: %s (%s)", where, warning, ", ".join(names))


def told_rights(lacking: str, name: str) -> str:
    """Say which commands the store's user may not use."""
    return f"its user may not {lacking} {name}; docs/cli.md has all the rights that it needs"


async def _warnings(ask: Ask) -> list[str]:
    memory, persistence = await _info(ask, "memory"), await _info(ask, "persistence")
    found = []
    policy = memory.get("maxmemory_policy", "noeviction")
    if policy != "noeviction" and memory.get("maxmemory", "0") != "0":
        found.append(f"maxmemory-policy is {policy}, so it may evict the ledger; set noeviction")
    if persistence.get("aof_enabled", "1") != "1":
        found.append("appendonly is off, so a restart may lose money that was booked; set appendonly yes")
    elif (fsync := await _setting(ask, "appendfsync")) not in {None, "always"}:
        found.append(f"appendfsync is {fsync}, so a power cut may lose what was booked last; set appendfsync always")
    return found


async def _info(ask: Ask, section: str) -> dict[str, str]:
    """Return INFO's pairs, whether or not the client library has parsed them."""
    reply = await ask("INFO", section)
    if isinstance(reply, dict):
        return {str(name): str(value) for name, value in reply.items()}
    pairs = (line.partition(":") for line in str(reply).splitlines() if ":" in line)
    return {name: value for name, _, value in pairs}


async def _setting(ask: Ask, name: str) -> str | None:
    """Return a setting; None if this user may not see it, as is usual where others run the server."""
    try:
        reply = await ask("CONFIG", "GET", name)
    except LedgerRefused:
        return None
    pairs = reply if isinstance(reply, dict) else dict(zip(reply[::2], reply[1::2], strict=True))
    return pairs.get(name)
