"""Batch: a provider's calls sent as lines of batches, each answered when its batch is over."""

from __future__ import annotations

import asyncio
import logging
import time
from functools import partial

from gateway.domain.route import ProviderConfig, Route
from gateway.domain.settlement import Outcome
from gateway.failpoint import reach
from gateway.ports import LedgerUnavailable
from gateway.ports.batches import Batches
from gateway.ports.preparing import is_preparing
from gateway.ports.provider import Answer, Call, Cancellable, Provider, ProviderServices, Submitted, UpstreamFailure
from gateway.providers.batch_following import BatchAccount, Following
from gateway.providers.batch_lines import Full, line_body
from gateway.providers.batch_making import STORE_PAUSE, Making
from gateway.providers.batch_wire import BatchWire
from gateway.providers.collected import CollectedAnswer
from gateway.providers.linked import without_links
from gateway.providers.normalised import Normaliser

log = logging.getLogger("gateway.providers")

CUSTOM_ID = "custom_id"
"""The fact of submitted work that is its line's name."""


class BatchProvider:
    """Implements `ports.Provider` for calls that go by batch, for one account. Lines of one model share a batch."""

    def __init__(self, config: ProviderConfig, services: ProviderServices) -> None:
        if config.batch is None or services.batches is None:
            raise ValueError(f"provider {config.name}: it takes no batches here")
        self._terms, self._services, self._profile = config.batch, services, config.profile
        self._records: Batches = services.batches
        self._wire = BatchWire(config)
        self._normaliser = Normaliser(config.profile, self._wire.endpoint, services)
        told = partial(services.batch_told, config.name)
        self._account = BatchAccount(self._wire, services.batches, config.batch, told)
        self._open: dict[tuple[str, str], Making] = {}
        self._following: dict[str, Following] = {}

    async def send(self, call: Call) -> Answer:
        """Put the job into a batch, and return its answer once that is over; raises UpstreamFailure."""
        known = None if call.submissions is None else call.submissions.known
        due = None if call.batch is None else call.batch.due
        if known is None:
            if due is not None and time.time() >= due - self._terms.spare:
                raise UpstreamFailure(Outcome.NOT_SENT, "batch_late", "there is no time left for a batch")
            return await self._shaped(call, await self._result(await self._join(call), call.request_id, due))
        submitted = known.get(call.number)
        if submitted is None:
            raise UpstreamFailure(Outcome.UNKNOWN, "reset", "the gateway was interrupted while a batch was made")
        custom_id = submitted.facts.get(CUSTOM_ID, call.request_id)
        return await self._shaped(call, await self._result(submitted.id, custom_id, due))

    async def _shaped(self, call: Call, line: Answer) -> Answer:
        """Return a line's answer as one to a call of its own is: in shape, its cost read as the profile says."""
        answer: Answer | None = None
        try:
            if self._profile.reads:
                answer = await self._normaliser.normalised(line, call, dict(line.headers))
            else:
                answer = await without_links(line, call, dict(line.headers), self._normaliser)
            return answer
        finally:
            if answer is None or isinstance(answer, CollectedAnswer):  # read to its end
                await line.aclose()

    async def _join(self, call: Call) -> str:
        """Write the job's line into a batch that is still open, and return that one's key."""
        endpoint = self._terms.endpoints.get(call.job.operation)
        if endpoint is None:
            raise UpstreamFailure(Outcome.NOT_SENT, "unsupported", f"no batch takes {call.job.operation}")
        body = await line_body(call, self._services, self._profile)
        try:
            for _ in range(3):
                making = self._making(endpoint, call.route.upstream_model)
                submitted = Submitted(making.key, facts={CUSTOM_ID: call.request_id})

                try:
                    await making.add(call.request_id, body, partial(self._announced, call, submitted))
                except Full:
                    making.closed = True
                    continue
                reach("batch_joined")
                return making.key
        except LedgerUnavailable as error:
            raise _not_made("the ledger is not available") from error
        finally:
            await body.aclose()
        raise UpstreamFailure(Outcome.NOT_SENT, "batch_too_large", "the request is larger than a batch may be")

    async def _announced(self, call: Call, submitted: Submitted) -> None:
        """Tell what the line will be part of; waits for a ledger that is away, for a batch can wait."""
        due = call.batch.due if call.batch is not None else None
        mine, submissions = None, call.submissions
        while mine is None and submissions is not None:
            try:
                mine = await submissions.announce(call.number, submitted)
            except LedgerUnavailable as error:
                if due is None or time.time() >= due - self._terms.spare:
                    raise
                log.warning("a line of batch %s waits for the store: %s", submitted.id, error)
                await asyncio.sleep(STORE_PAUSE)
        if mine is False:
            raise _not_made("the work is another gateway's by now")

    def _making(self, endpoint: str, model: str) -> Making:
        """Return the batch that takes lines now; one begins with its first line, and is followed from then on."""
        making = self._open.get((endpoint, model))
        if making is None or making.closed:
            for key in [key for key, each in self._following.items() if each.idle and each.over]:
                del self._following[key]  # one of which no line could be written
            making = Making(self._wire, self._records, self._terms, endpoint)
            self._open[endpoint, model] = making
            self._following[making.key] = Following(self._account, making.key, making)
        return making

    async def _result(self, key: str, custom_id: str, due: float | None) -> Answer:
        following = self._following.get(key)
        if following is None:
            following = Following(self._account, key, None)
            self._following[key] = following
        try:
            return await following.wait(custom_id, due)
        finally:
            if following.idle and self._following.get(key) is following:
                del self._following[key]
                await asyncio.shield(following.aclose())

    async def aclose(self) -> None:
        """Stop following, and close connections."""
        following, self._following = list(self._following.values()), {}
        for each in following:
            await each.aclose()
        await self._wire.aclose()


def _not_made(why: str) -> UpstreamFailure:
    return UpstreamFailure(Outcome.NOT_SENT, "batch_not_created", why)


class WithBatches:
    """Implements `ports.Provider`: calls that go by batch by one, all others by another."""

    def __init__(self, direct: Provider, batched: Provider) -> None:
        self._direct = direct
        self._batched = batched
        self._preparing = direct if is_preparing(direct) else None

    def prepare(self, call: Call) -> None:
        """Make a job ready that goes by itself, where its provider can."""
        if self._preparing is not None and call.batch is None:
            self._preparing.prepare(call)

    async def send(self, call: Call) -> Answer:
        """Send the job the way that its call says."""
        return await (self._direct if call.batch is None else self._batched).send(call)

    async def cancel(self, route: Route, submitted: Submitted) -> bool:
        """Ask for work to be given up, where the provider can be asked; a line of a batch cannot be taken out."""
        return isinstance(self._direct, Cancellable) and await self._direct.cancel(route, submitted)

    async def aclose(self) -> None:
        """Close connections."""
        await self._batched.aclose()
        await self._direct.aclose()
