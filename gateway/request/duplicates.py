"""Duplicates: requests that repeat one which still runs in this process wait for its answer, however many they are."""

from __future__ import annotations

import asyncio
import copy
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable

from gateway.domain.errors import GatewayError, IdempotencyKeyReused, UpstreamTimeout
from gateway.domain.idempotency import Binding
from gateway.domain.record import record
from gateway.observe.event import Observer
from gateway.ports import Answers, Headers, Outbound
from gateway.request.answer_keeping import Whole
from gateway.request.exchange import Admitted
from gateway.steps.write import COST, REPLAYED


@record(frozen=True, slots=True)
class Ending:
    """How a request came out: `kept` names the request whose answer is kept; else the answer, or the error, itself."""

    kept: str = ""
    answer: Whole | None = None
    error: GatewayError | None = None


class Shared:
    """A request under way that others may join. They all wait for one future, and none of them can end it."""

    def __init__(self, binding: Binding, over: Callable[[], object]) -> None:
        self.binding = binding
        self._over = over
        self._ending: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()

    def end(self, ending: Ending) -> None:
        """Answer everybody who waits; only the first call counts."""
        if not self._ending.done():
            self._over()
            self._ending.set_result(ending)

    async def ending(self) -> Ending:
        """Wait for the end."""
        return await asyncio.shield(self._ending)


class Duplicates:
    """The requests with an idempotency key that run in this process, by the name that they are bound to."""

    def __init__(self, answers: Answers, observer: Observer) -> None:
        self._answers = answers
        self._observer = observer
        self._running: dict[str, Shared] = {}

    def running(self, binding: Binding | None) -> Shared | None:
        """Return the request that one with this binding repeats, if it runs here."""
        return None if binding is None or binding.claim else self._running.get(binding.name)

    def begin(self, binding: Binding | None) -> Shared | None:
        """Let others join the request that begins now, up to its end; None if it has no key to be known by.

        After the end what is to be known of it is in the ledger and on disk.
        """
        if binding is None or binding.claim:
            return None
        shared = Shared(binding, lambda: self._running.pop(binding.name, None))
        self._running[binding.name] = shared
        return shared

    async def join(self, admitted: Admitted, shared: Shared) -> Outbound:
        """Wait for the answer of a request under way and return it; raises its error, or IdempotencyKeyReused."""
        exchange = admitted.exchange
        await admitted.body.aclose()
        if exchange.binding is None or exchange.binding.fingerprint != shared.binding.fingerprint:
            raise reused()
        exchange.replayed = True
        began = time.monotonic()
        try:
            ending = await shared.ending()
        finally:
            exchange.upstream_seconds += time.monotonic() - began
        if ending.error is not None:
            raise once_more(ending.error)
        answer = ending.answer.outbound() if ending.answer else await self._answers.find(ending.kept)
        if answer is None:
            raise not_kept(ending.kept)

        def ended(taken: bool, sent: int) -> None:
            self._observer.emit(exchange.finished(answer.status, client_gone=not taken, bytes_out=sent))

        return Outbound(answer.status, _repeated(answer.headers), Watched(answer.chunks, ended))


class Watched(AsyncIterator[bytes]):
    """A body that tells, once it is closed, whether it was taken to its end and how many bytes of it were."""

    def __init__(self, chunks: AsyncIterator[bytes], ended: Callable[[bool, int], None]) -> None:
        self._chunks = chunks
        self._ended = ended
        self._taken = False
        self._sent = 0
        self._closed = False

    async def __anext__(self) -> bytes:
        try:
            chunk = await anext(self._chunks)
        except StopAsyncIteration:
            self._taken = True
            raise
        self._sent += len(chunk)
        return chunk

    async def aclose(self) -> None:
        """Tell how it ended, once."""
        if self._closed:
            return
        self._closed = True
        self._ended(self._taken, self._sent)
        if isinstance(self._chunks, AsyncGenerator):
            await self._chunks.aclose()


def reused() -> IdempotencyKeyReused:
    """Return the error for a key that stands for another request."""
    message = (
        "This Idempotency-Key was used for another request: other fields, another endpoint, job type or lane. "
        "Send each request under a key of its own."
    )
    return IdempotencyKeyReused(message, param="Idempotency-Key")


def not_kept(request_id: str) -> GatewayError:
    """Return the error for a request that repeats one of which the answer is lost; the same however often it is asked.

    Doing the work again is up to the client: by a key, or a request, that is a new one.
    """
    message = (
        f"This request repeats {request_id}, whose outcome is unknown or whose answer is not kept. The work may have "
        f"been done and billed, so it is not done again; GET /v1/requests/{request_id} tells what is known."
    )
    return UpstreamTimeout(message, should_retry=False)


def once_more(error: GatewayError) -> GatewayError:
    """Return an error for one more request that it is the answer to."""
    again = copy.copy(error)
    again.headers = _repeated(error.headers)
    return again


def _repeated(headers: Headers) -> list[tuple[str, str]]:
    """The headers of an answer for whoever repeats its request, which costs nothing."""
    return [*(header for header in headers if header[0] != COST), REPLAYED]
