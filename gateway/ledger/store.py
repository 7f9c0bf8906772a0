"""The connection to Redis or Valkey: bounded, with a deadline on every call, and one kind of error."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as StoreConnectionError
from redis.exceptions import NoScriptError, RedisError, ResponseError
from redis.exceptions import TimeoutError as StoreTimeoutError

from gateway.ledger.embedded import embedded_store
from gateway.ledger.errors import LedgerRefused, StoreError
from gateway.ledger.script import Script
from gateway.ports import LedgerUnavailable

log = logging.getLogger(__name__)

EMBEDDED = "embedded:"
OLDEST = (6, 2)
"""The oldest server version that has every command used here."""

_SCHEMES = ("redis", "rediss", "unix")
_LATER = ("redis+sentinel", "redis+cluster")


class Store:
    """A bounded pool of connections to one server.

    Every call ends within `deadline` seconds once it has a connection, and waits at most `patience` seconds for one.
    Nothing is repeated by itself, save a call marked `repeatable` whose connection was found broken. A call that is
    cancelled or times out closes its connection, so a late reply can never answer somebody else's call.
    """

    def __init__(self, url: str, *, connections: int = 16, deadline: float = 1.0, patience: float = 2.0) -> None:
        self.where = _without_password(url)
        self._deadline = deadline
        self._patience = patience
        self._free = asyncio.Semaphore(connections)
        try:
            pool = ConnectionPool.from_url(
                url,
                max_connections=connections,
                socket_timeout=deadline,
                socket_connect_timeout=deadline,
                retry=Retry(NoBackoff(), 0),
                protocol=2,
                decode_responses=True,
            )
            self._redis: Any = Redis.from_pool(pool)  # its calls have no types
        except (ValueError, TypeError) as error:
            raise StoreError(f"store URL {self.where}: {error}") from error

    async def run(self, script: Script, keys: Sequence[str], args: Sequence[str], *, repeatable: bool = False) -> Any:
        """Run a script in one round trip (two if the server does not have it yet); raises LedgerUnavailable."""
        try:
            return await self.execute("EVALSHA", script.sha, len(keys), *keys, *args, repeatable=repeatable)
        except LedgerRefused as error:
            if not isinstance(error.__cause__, NoScriptError):
                raise
        return await self.execute("EVAL", script.source, len(keys), *keys, *args, repeatable=repeatable)

    async def execute(self, *command: str | int, repeatable: bool = False) -> Any:
        """Send one command and return its reply, text decoded; raises LedgerUnavailable."""
        if self._free.locked():
            await self._wait_for_connection()
        else:
            await self._free.acquire()  # at once, without a timer
        try:
            async with asyncio.timeout(self._deadline):
                return await self._send(command, repeatable=repeatable)
        except (TimeoutError, StoreTimeoutError) as error:
            raise LedgerUnavailable(f"store {self.where}: no answer in {self._deadline:g} s") from error
        except ResponseError as error:
            raise LedgerRefused(f"store {self.where}: {error}") from error
        except (RedisError, OSError) as error:
            raise LedgerUnavailable(f"store {self.where}: {error}") from error
        finally:
            self._free.release()

    async def _wait_for_connection(self) -> None:
        try:
            async with asyncio.timeout(self._patience):
                await self._free.acquire()
        except TimeoutError as error:
            raise LedgerUnavailable(f"store {self.where}: no connection free in {self._patience:g} s") from error

    async def _send(self, command: Sequence[str | int], *, repeatable: bool) -> Any:
        try:
            return await self._redis.execute_command(*command)
        except StoreConnectionError:
            if not repeatable:
                raise
        return await self._redis.execute_command(*command)

    async def check(self) -> None:
        """Check that the server answers and is fit for money; StoreError in one line if not, a warning if unwise."""
        try:
            server = _info(await self.execute("INFO", "server"))
            memory = _info(await self.execute("INFO", "memory"))
        except LedgerUnavailable as error:
            raise StoreError(
                f"{str(error).rstrip('.')}. Start it, or choose another with --store (`embedded:` needs no server)"
            ) from error
        version = server.get("redis_version", "0")
        if tuple(int(part) for part in re.findall(r"\d+", version)[:2]) < OLDEST:
            raise StoreError(f"store {self.where} is version {version}; 6.2 or newer is needed")
        policy = memory.get("maxmemory_policy", "noeviction")
        if policy != "noeviction" and memory.get("maxmemory", "0") != "0":
            log.warning("store %s has maxmemory-policy %s: it may evict the ledger; set noeviction", self.where, policy)

    async def aclose(self) -> None:
        """Close every connection."""
        await self._redis.aclose()


def _info(reply: Any) -> dict[str, str]:
    """INFO's reply as text; the client library parses it for a bare INFO into a mapping of its own types."""
    if isinstance(reply, dict):
        return {str(name): str(value) for name, value in reply.items()}
    pairs = (line.partition(":") for line in str(reply).splitlines() if ":" in line)
    return {name: value for name, _, value in pairs}


def _without_password(url: str) -> str:
    return re.sub(r"([?&]password=)[^&]*", r"\1***", re.sub(r"//[^/@]*@", "//***@", url))


@contextmanager
def store_url(url: str, data_dir: Path) -> Iterator[str]:
    """Yield a URL for `Store` from what the user gave; `embedded:` runs a server in `data_dir` meanwhile.

    StoreError if the URL is not one of redis://, rediss://, unix:// and embedded:.
    """
    if url == EMBEDDED:
        with embedded_store(data_dir) as socket_url:
            yield socket_url
        return
    try:
        scheme = urlsplit(url).scheme
    except ValueError as error:
        raise StoreError(f"store URL {_without_password(url)!r}: {error}") from error
    if scheme in _LATER:
        raise StoreError(f"store URL: {scheme}:// is not supported yet; use redis://, rediss://, unix:// or embedded:")
    if scheme not in _SCHEMES:
        raise StoreError(f"store URL {_without_password(url)!r}: must be redis://, rediss://, unix:// or embedded:")
    yield url
