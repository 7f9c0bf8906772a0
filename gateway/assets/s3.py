"""Blobs in S3: bytes under a name in a bucket, whole or not at all, for all gateways that share it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from gateway.assets.blobs import checked
from gateway.assets.clock import Now, own_time
from gateway.assets.location import Bucket
from gateway.domain.errors import Unavailable
from gateway.on_demand import OnDemand
from gateway.ports.storage import AWAY, FULL, SLOW, Blob, StorageUnavailable, Stored
from gateway.spool import Spool

if TYPE_CHECKING:
    import obstore
    from obstore import exceptions, store
else:  # where images are kept in a directory nobody needs it
    obstore, exceptions, store = map(OnDemand, ("obstore", "obstore.exceptions", "obstore.store"))

log = logging.getLogger(__name__)

Result = TypeVar("Result")

PUT_SECONDS = 15.0
"""The longest that keeping one blob may take."""
ASK_SECONDS = 5.0
"""The longest that any other call may take."""
SWEEP_EVERY = 600.0
_IN_MEMORY = 256 * 1024
"""Bytes of a blob whose name is not known yet that are kept in memory; a longer one is on disk meanwhile."""
_AT_ONCE = 8 * 1024 * 1024
"""Bytes that are put in one call; more of them go in parts, two at a time."""
_PART = 5 * 1024 * 1024
_BATCH = 1024 * 1024
"""Bytes read in one call: the memory that one reader takes, however slow it is."""


class BlobsInS3:
    """Implements `ports.storage.Blobs`. Credentials are those that the environment names for AWS.

    `keep_for` says by the first part of a name how many seconds such blobs are kept at most; what it does not name is
    kept until it is deleted. `now` tells when that time is over.
    """

    def __init__(
        self,
        bucket: Bucket,
        *,
        keep_for: Mapping[str, float] | None = None,
        put_seconds: float = PUT_SECONDS,
        now: Now = own_time,
    ) -> None:
        self._now = now
        self._keep_for = dict(keep_for or {})
        self._put_seconds = put_seconds
        where: dict[str, Any] = {"endpoint": bucket.endpoint, "region": bucket.region}
        self._store = store.S3Store(
            bucket.name,
            prefix=bucket.prefix or None,
            virtual_hosted_style_request=bucket.virtual_hosted,
            client_options={
                "allow_http": (bucket.endpoint or "").startswith("http://"),
                "connect_timeout": timedelta(seconds=ASK_SECONDS / 2),
                "timeout": timedelta(seconds=put_seconds),
            },
            retry_config={
                "max_retries": 2,
                "retry_timeout": timedelta(seconds=ASK_SECONDS),
                "backoff": {
                    "init_backoff": timedelta(milliseconds=100),
                    "max_backoff": timedelta(seconds=1),
                    "base": 2,
                },
            },
            **{key: value for key, value in where.items() if value is not None},
        )

    async def put(self, name: str | Callable[[], str], content: AsyncIterator[bytes], *, durable: bool = True) -> int:
        """Keep bytes under a name, and return how many; what was there before is replaced."""
        del durable  # whatever a bucket has taken is
        spool = Spool(_IN_MEMORY)
        try:
            async for chunk in content:
                spool.write(chunk)
                await spool.drain()
            path = checked(name if isinstance(name, str) else name())
            await _within(self._put_seconds, partial(self._put, path, spool))
            return spool.size
        except FileNotFoundError as error:
            raise StorageUnavailable("there is no such bucket") from error
        except Unavailable as error:
            raise StorageUnavailable("there is no room on the disk of this gateway", FULL) from error
        finally:
            await spool.aclose()

    async def _put(self, path: str, spool: Spool) -> None:
        if spool.size <= _AT_ONCE:
            whole = b"".join([chunk async for chunk in spool.read(0, spool.size)])
            await obstore.put_async(self._store, path, whole, use_multipart=False)
            return
        chunks = spool.read(0, spool.size)
        await obstore.put_async(self._store, path, chunks, chunk_size=_PART, max_concurrency=2)

    async def get(self, name: str) -> Blob | None:
        """Return what is kept under a name; None if nothing is."""
        path = checked(name)
        try:
            found = await _within(ASK_SECONDS, lambda: obstore.head_async(self._store, path))
        except FileNotFoundError:
            return None
        return Blob(found["size"], partial(self._chunks, path), found["last_modified"].timestamp())

    async def _chunks(self, path: str, start: int, end: int) -> AsyncIterator[bytes]:
        while start < end:
            stop = min(end, start + _BATCH)
            ask = partial(obstore.get_range_async, self._store, path, start=start, end=stop)
            try:
                chunk = bytes(await _within(self._put_seconds, ask))
            except FileNotFoundError as error:
                raise StorageUnavailable(f"{path} was deleted while it was read") from error
            if not chunk:
                raise StorageUnavailable(f"{path} is shorter than it was")
            yield chunk
            start += len(chunk)

    async def delete(self, name: str, *, unless_after: float | None = None) -> bool:
        """Delete it, and tell whether there was something to delete; harmless if there is nothing."""
        path = checked(name)
        try:
            found = await _within(ASK_SECONDS, lambda: obstore.head_async(self._store, path))
            if unless_after is not None and found["last_modified"].timestamp() > unless_after:
                return False
            await _within(ASK_SECONDS, lambda: obstore.delete_async(self._store, path))
        except FileNotFoundError:
            return False
        return True

    async def list(self, prefix: str, *, after: str = "") -> AsyncGenerator[Stored, None]:
        """Yield what is kept below `prefix/`, in the order of names."""
        batches = obstore.list(self._store, checked(prefix), offset=after or None)
        while True:
            try:
                batch = await _within(ASK_SECONDS, lambda: anext(batches, None))
            except FileNotFoundError:
                return
            if batch is None:
                return
            for each in batch:
                yield Stored(each["path"], each["size"], each["last_modified"].timestamp())

    async def run(self) -> None:
        """Delete what is too old, again and again, until cancelled."""
        while True:
            try:
                await self.sweep()
            except StorageUnavailable as error:
                log.warning("old blobs cannot be deleted: %s", error)
            await asyncio.sleep(SWEEP_EVERY)

    async def sweep(self) -> int:
        """Delete what is kept for too long, and return how many."""
        deleted, now = 0, await self._now()
        for prefix, seconds in self._keep_for.items():
            limit = now - seconds
            async for each in self.list(prefix):
                if each.modified <= limit:
                    deleted += await self.delete(each.name, unless_after=limit)
        return deleted


async def _within(seconds: float, ask: Callable[[], Awaitable[Result]]) -> Result:
    """Do it within this time; every error but "not found" becomes StorageUnavailable."""
    try:
        async with asyncio.timeout(seconds):
            return await ask()
    except FileNotFoundError:
        raise
    except TimeoutError as error:
        raise StorageUnavailable(f"the bucket did not answer within {seconds:g} s", SLOW) from error
    except (exceptions.BaseError, OSError) as error:
        told = next(iter(str(error).splitlines()), type(error).__name__)
        raise StorageUnavailable(f"the bucket refused, or is away: {told[:300]}", AWAY) from error
