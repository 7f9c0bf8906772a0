"""How the commands about keys come to them, and what a key may be called."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TypeVar

from gateway.cli.options import Fatal
from gateway.cli.running import clear_errors, connected
from gateway.config.values import NAME, NAME_RULE
from gateway.ledger.clock import store_time
from gateway.ledger.keys import KeyRecord, Keys, UnknownKey, every_key
from gateway.ledger.names import Names
from gateway.ledger.pepper import VARIABLE, check_pepper, load_pepper

Result = TypeVar("Result")

LONGEST_LABEL = 100


def check_name(value: str) -> str:
    """Return the name of a project or of a job type; ValueError if policy could not have it."""
    if not NAME.fullmatch(value):
        raise ValueError(f"{value!r} cannot be a name in a policy: {NAME_RULE}")
    return value


def check_label(value: str) -> str:
    """Return what a key is told by; ValueError if that is not one short line."""
    if len(value) > LONGEST_LABEL or not value.isprintable():
        raise ValueError(f"one line of printable characters, {LONGEST_LABEL} at most")
    return value


def with_keys(
    store: AbstractContextManager[str], data: Path, realm: str, work: Callable[[Keys], Awaitable[Result]]
) -> Result:
    """Do something with the keys of a realm; Fatal, in one line, if it cannot be done."""
    with clear_errors(), store as url:
        return asyncio.run(_with_keys(url, data, realm, work))


def read_keys(store: AbstractContextManager[str], realm: str) -> tuple[list[KeyRecord], float]:
    """Return every key of a realm, oldest first, and Unix seconds by the store's clock. Nothing is written.

    Fatal, in one line, if it cannot be done.
    """

    async def read(url: str) -> tuple[list[KeyRecord], float]:
        async with connected(url, realm, deadline=5.0, writes=False) as connection:
            return await every_key(connection, Names(realm)), await store_time(connection)

    with clear_errors(), store as url:
        return asyncio.run(read(url))


async def _with_keys(url: str, data: Path, realm: str, work: Callable[[Keys], Awaitable[Result]]) -> Result:
    async with connected(url, realm, deadline=5.0) as connection:
        pepper = load_pepper(data, os.environ.get(VARIABLE))
        await check_pepper(connection, pepper, realm)
        try:
            return await work(Keys(connection, pepper, realm))
        except UnknownKey as error:
            raise Fatal(str(error)) from error
