"""Batch wire: what is said to a provider's Files and Batches API, and what it answers. Nothing here decides."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import httpx

from gateway.domain.route import ProviderConfig
from gateway.domain.settlement import Outcome
from gateway.http1.message import Incoming
from gateway.ports import Rendered
from gateway.ports.provider import UpstreamFailure
from gateway.providers.answer import read_body, read_limited
from gateway.providers.decompression import unpacked
from gateway.providers.endpoint import Endpoint
from gateway.providers.outcome import of_garbage, of_status

log = logging.getLogger("gateway.providers")

MARK: Final = "gateway_batch"
"""The name of the metadata by which a batch is found whose id was never told."""
MOST_RESULTS: Final = 64 * 1024**3
"""Bytes of one file of results; 50,000 large images stay below it."""
_MOST_DOCUMENT = 1024 * 1024
_DOCUMENT_SECONDS = 60.0
_RESULTS_SECONDS = 6 * 3600.0
"""Seconds spent waiting for one file of results; the largest comes within them at 3 MB a second."""
_ID = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
_PAGES = 20
"""Pages of a hundred batches that are looked through for one."""
_SPARE = 10.0
_LAST_SECONDS = 3.0
_GENERATIONS = "/images/generations"
_DEPLOYMENT = "/deployments/{deployment}"
FULL_REST: Final = 60.0
"""Seconds after which an account that takes no more into its batches is asked again: room comes as others end."""
_FULL_CODES = frozenset({"token_limit_exceeded", "rate_limit_exceeded"})
"""What is said of a batch, when it is made or later, that the account's limit on what is queued stood in the way of."""
OVER: Final = frozenset({"completed", "failed", "expired", "cancelled"})


@dataclass(frozen=True, slots=True)
class Seen:
    """A batch as the provider tells it. `files` are those of its results, whichever there are."""

    id: str
    status: str
    files: tuple[str, ...] = ()
    message: str = ""
    full: bool = False
    """Whether the account had no room for it."""
    source: str | None = None
    """The file that its lines were uploaded in."""
    requests: int = 0
    done: int = 0
    """How many requests it has, and how many of them were answered by a success; 0 where it does not say."""

    @property
    def over(self) -> bool:
        """Whether nothing follows."""
        return self.status in OVER


class BatchWire:
    """Speaks to one account. Every method raises UpstreamFailure; what it says of money only `create` can mean."""

    def __init__(self, config: ProviderConfig) -> None:
        self.endpoint = Endpoint(config, config.profile.auth)
        """The account itself."""
        path, query = config.profile.generations, config.profile.query
        self.longest_call = 2 * config.timeout + config.connect_timeout + _SPARE
        """Seconds after which the provider has heard of whatever this process said to it."""
        self._deleting: set[asyncio.Task[None]] = set()
        root = path.removesuffix(_GENERATIONS) if path.endswith(_GENERATIONS) else ""
        self._root, self._query = root.replace(_DEPLOYMENT, ""), query  # files and batches are the account's

    @property
    def secret(self) -> str | None:
        """The account's secret, to be kept out of what is shown."""
        return self.endpoint.secret

    async def upload(self, key: str, length: int, chunks: Callable[[], AsyncIterator[bytes]]) -> str:
        """Store a file of lines and return its id."""
        boundary = f"image-gateway-{secrets.token_hex(16)}"
        head = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
            f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{key}.jsonl"\r\n'
            "Content-Type: application/jsonl\r\n\r\n"
        ).encode()
        tail = f"\r\n--{boundary}--\r\n".encode()

        async def form() -> AsyncIterator[bytes]:
            yield head
            async for chunk in chunks():
                yield chunk
            yield tail

        kind = f"multipart/form-data; boundary={boundary}"
        body = Rendered(kind, len(head) + length + len(tail), form)
        return _id(await self._document(await self._post("/files", body, key)))

    async def create(self, key: str, file: str, endpoint: str, window: float) -> Seen:
        """Let a file be worked on. The one step that must not be repeated without looking."""
        wanted = {
            "input_file_id": file,
            "endpoint": endpoint,
            "completion_window": f"{round(window / 3600)}h",
            "metadata": {MARK: key},
        }
        text = json.dumps(wanted).encode()

        async def chunks() -> AsyncIterator[bytes]:
            yield text

        body = Rendered("application/json", len(text), chunks)
        return _seen(await self._document(await self._post("/batches", body, key)))

    async def look(self, batch_id: str) -> Seen:
        """Return how a batch stands."""
        return _seen(await self._document(await self.endpoint.get(self._url(f"/batches/{batch_id}"))))

    async def cancel(self, batch_id: str) -> Seen:
        """Ask for a batch to be given up; what is done already stays done."""
        url = self._url(f"/batches/{batch_id}/cancel")
        return _seen(await self._document(await self.endpoint.ask("POST", url)))

    async def marked(self, key: str, pages: int = _PAGES) -> Seen | None:
        """Find a batch by its mark, among the newest two thousand, or fewer `pages` of a hundred."""
        after: str | None = None
        for _ in range(pages):
            query = {"limit": "100", **({"after": after} if after else {})}
            page = await self._document(await self.endpoint.get(self._url("/batches", query)))
            batches: Sequence[Any] = page["data"] if isinstance(page.get("data"), list) else []
            for each in batches:
                metadata = each.get("metadata") if isinstance(each, dict) else None
                if isinstance(metadata, dict) and metadata.get(MARK) == key:
                    return _seen(each)
            if not batches or not page.get("has_more"):
                return None
            after = _id(batches[-1])
        return None

    async def content(self, file: str) -> AsyncIterator[bytes]:
        """Yield a file of results."""
        response = await self.endpoint.get(self._url(f"/files/{file}/content"))
        try:
            if not response.is_success:
                raise await self._failure(response)
            masked = self.endpoint.mask.over(unpacked(response))
            async for chunk in read_body(masked, limit=MOST_RESULTS, seconds=_RESULTS_SECONDS):
                yield chunk
        finally:
            await response.aclose()

    def forget(self, file: str | None) -> None:
        """Have a file deleted that was uploaded and has served; nobody waits for it, and nothing fails by it."""
        if file is not None:
            task = asyncio.create_task(self._delete(file))
            self._deleting.add(task)
            task.add_done_callback(self._deleting.discard)

    async def _delete(self, file: str) -> None:
        try:
            await self._document(await self.endpoint.ask("DELETE", self._url(f"/files/{file}")))
        except UpstreamFailure as failure:
            log.warning("file %s stays at the provider: %s", file, failure)

    def _url(self, path: str, query: Mapping[str, str] | None = None) -> httpx.URL:
        return self.endpoint.url(self._root + path, {**self._query, **(query or {})})

    async def _post(self, path: str, body: Rendered, key: str) -> Incoming:
        return await self.endpoint.post(self._url(path), body, key, accept="application/json")

    async def _document(self, response: Incoming) -> Mapping[str, Any]:
        try:
            if not response.is_success:
                raise await self._failure(response)
            text = await read_limited(unpacked(response), limit=_MOST_DOCUMENT, seconds=_DOCUMENT_SECONDS)
        finally:
            await response.aclose()
        try:
            document = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise of_garbage("the provider's answer is no JSON", response.status_code) from error
        if not isinstance(document, dict):
            raise of_garbage("the provider's answer is no JSON object", response.status_code)
        return document

    async def _failure(self, response: Incoming) -> UpstreamFailure:
        body = await self.endpoint.error_body(response)
        return of_status(response.status_code, response.headers, body, secret=self.secret)

    async def aclose(self) -> None:
        """Close connections; what is being deleted has a moment for it."""
        if self._deleting:
            _, left = await asyncio.wait(self._deleting, timeout=_LAST_SECONDS)
            for task in left:
                task.cancel()
        await self.endpoint.aclose()


def _id(document: object) -> str:
    named = document.get("id") if isinstance(document, dict) else None
    if not isinstance(named, str) or not _ID.fullmatch(named):
        raise of_garbage("the provider's answer names no id")
    return named


def _seen(document: Mapping[str, Any]) -> Seen:
    named = (document.get(name) for name in ("output_file_id", "error_file_id"))
    files = tuple(file for file in named if isinstance(file, str) and _ID.fullmatch(file))  # some say "" for none
    told = document.get("errors")
    errors = told.get("data") if isinstance(told, dict) else None
    first = errors[0] if isinstance(errors, list) and errors and isinstance(errors[0], dict) else {}
    source, counts = document.get("input_file_id"), document.get("request_counts")
    return Seen(
        _id(document),
        str(document.get("status")),
        files,
        str(first.get("message") or "")[:200],
        first.get("code") in _FULL_CODES,
        source if isinstance(source, str) and _ID.fullmatch(source) else None,
        _count(counts, "total"),
        _count(counts, "completed"),
    )


def _count(counts: object, name: str) -> int:
    count = counts.get(name) if isinstance(counts, dict) else None
    return count if isinstance(count, int) else 0


def not_sent(failure: UpstreamFailure) -> UpstreamFailure:
    """Return a failure of the steps around a batch as that of a line: nothing of it can have been billed."""
    message = f"no batch could be created: {failure.message}"
    if failure.reason == "status_429" or failure.code in _FULL_CODES:
        return full(Outcome.NOT_SENT, message, failure.retry_after)
    return UpstreamFailure(Outcome.NOT_SENT, "batch_not_created", message, retry_after=failure.retry_after)


def full(outcome: Outcome, message: str, retry_after: float | None = None) -> UpstreamFailure:
    """Return the failure of a line for which the account had no room; other calls of the account may have some."""
    return UpstreamFailure(outcome, "batch_full", message, retry_after=max(retry_after or 0.0, FULL_REST))
