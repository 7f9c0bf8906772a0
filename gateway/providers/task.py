"""Task: providers that take work on and do it in their own time; a profile says how each of them is spoken to.

A call is answered when its work is done. Submitting is the only step that is never repeated; from then on the work is
followed by its id, until it has ended or patience has.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from contextlib import suppress

from gateway.domain.json_path import first
from gateway.domain.profile import Parameter, Source
from gateway.domain.route import ProviderConfig, Route
from gateway.domain.settlement import Outcome
from gateway.domain.task_profile import TaskProfile, UrlPurpose
from gateway.ports.provider import Answer, Call, Expected, ProviderServices, Submitted, UpstreamFailure
from gateway.providers.outcome import LIMIT_HEADERS, of_garbage
from gateway.providers.poller import Lane, Watch
from gateway.providers.task_callback import Verifier
from gateway.providers.task_cost import told_at_once
from gateway.providers.task_outcome import lost, of_refusal
from gateway.providers.task_result import TaskResult
from gateway.providers.task_wire import Reply, TaskWire
from gateway.providers.task_work import SENT, Finished, TaskAccount, Words, Work
from gateway.providers.upstream_json import upstream_json

log = logging.getLogger("gateway.providers")

AT = "at"
"""The fact of submitted work that is when the provider took it on, in Unix seconds."""
_LEAST_PATIENCE = 30.0
"""Seconds in which work that is followed again is looked for, however old it is."""
_LONGEST_ID = 256
_NO_LIMITS: Mapping[str, str] = {}


class TaskProvider:
    """Implements `ports.Provider` and `ports.Cancellable` for one account.

    Raises ValueError, with a message for the operator, if the configuration cannot be used.
    """

    def __init__(self, config: ProviderConfig, services: ProviderServices) -> None:
        if not isinstance(config.profile, TaskProfile):
            raise ValueError(  # noqa: TRY004 - what an operator's mistake raises
                f"provider {config.name}: kind task needs a preset, or a map `task` of its own"
            )
        self._profile = config.profile
        self._name = config.name
        self._services = services
        self._wire = TaskWire(config, self._profile)
        words = Words(config.name, self._profile)
        self._account = TaskAccount(self._profile, self._wire, words, Lane(self._profile.poll))
        callback = self._profile.callback
        self._watches: dict[str, Watch[Finished]] = {}
        self._verifier = None if callback is None else Verifier(callback, self._wire, services.fetcher)

    async def send(self, call: Call) -> Answer:
        """Submit the job, follow it to its end and fetch its images; raises UpstreamFailure."""
        fetcher = self._services.fetcher
        if fetcher is None:
            raise UpstreamFailure(Outcome.NOT_SENT, "unconfigured", "the gateway has no way to fetch images by link")
        known = None if call.submissions is None else call.submissions.known
        hint = await self._hint() if known is None else None
        try:
            submitted, limits = await self._begun(call, hint) if known is None else (_known(known, call), _NO_LIMITS)
            work = Work(self._account, call, submitted)
            watch, patience = self._watch(work, submitted, hint)
            try:  # awaited right here: each coroutine in between would be kept for every piece that is under way
                finished = await watch.ended(patience)
            except TimeoutError as error:
                raise lost("the provider did not finish the work in time", "timeout") from error
            finally:
                watch.close()
                self._watches.pop(submitted.id, None)
            return await TaskResult(self._account, fetcher, call, submitted).answer(finished, work.look, limits)
        finally:
            if hint is not None:
                hint.expected.close()

    async def _begun(self, call: Call, hint: _Hint | None) -> tuple[Submitted, Mapping[str, str]]:
        """Submit the work and note it; all else that was said goes, for thousands of pieces may be under way."""
        reply = await self._submit(call, hint)
        submitted = self._submitted(reply)
        if call.submissions is not None:
            await call.submissions.note(call.number, submitted)
        return submitted, _limits(reply)

    async def _hint(self) -> _Hint | None:
        """Open a URL for the provider to call, where it may and what it says can be judged."""
        hints, verifier = self._services.hints, self._verifier
        if hints is None or verifier is None:
            return None
        hint = _Hint(verifier, verifier.new_secret())
        expected = hints.expect(hint.take)
        if expected is None:
            return None
        hint.expected = expected
        believed = False
        try:
            believed = await verifier.ready()
            return hint if believed else None
        finally:
            if not believed:
                expected.close()

    async def _submit(self, call: Call, hint: _Hint | None) -> Reply:
        """Post the work; returns what the provider said when it took it on."""
        callback, parameters, query = self._profile.callback, self._profile.parameters, {}
        if hint is not None and callback is not None:
            if callback.query:
                query[callback.query] = hint.expected.url
            if hint.secret is not None:
                constant = Parameter(callback.secret_field, Source.CONSTANT, constant=hint.secret)
                parameters = (*parameters, constant)
        url = None if hint is None else hint.expected.url
        body = await upstream_json(call, parameters, self._services, callback=url)
        try:
            reply = await self._wire.submit(call, body, query)
        finally:
            await body.aclose()
        if not reply.success:
            raise of_refusal(self._profile, reply, self._wire.secret)
        return reply

    def _submitted(self, reply: Reply) -> Submitted:
        """Read what was taken on; of an answer that does not say it nobody knows what will be billed."""
        identity = first(reply.document, *self._profile.id)
        if isinstance(identity, int) and not isinstance(identity, bool):
            identity = str(identity)
        if not isinstance(identity, str) or not 0 < len(identity) <= _LONGEST_ID or not identity.isprintable():
            raise of_garbage("the provider took the work on and did not say under which id", reply.status)
        facts = {AT: f"{time.time():.3f}", SENT: str(reply.sent)}
        facts |= told_at_once(self._profile, reply.document, reply.headers)
        return Submitted(identity, self._wire.told_urls(reply.document), facts)

    def _watch(self, work: Work, submitted: Submitted, hint: _Hint | None) -> tuple[Watch[Finished], float]:
        """Begin to look at work; returns for how many seconds more. Whoever stops waiting leaves it as it is."""
        age, patience = _age(submitted), self._profile.patience
        self._watches[submitted.id] = watch = self._account.lane.watch(work.look, age=age)
        if hint is not None:
            hint.attach(watch)
        return watch, max(patience - age, min(patience, _LEAST_PATIENCE))

    async def cancel(self, route: Route, submitted: Submitted) -> bool:
        """Ask for work to be given up, and return whether the provider agreed; raises nothing."""
        url = self._wire.url_of(UrlPurpose.CANCEL, submitted, route.upstream_model)
        if url is None:
            return False
        try:
            agreed = (await self._wire.cancel(url)).success
        except UpstreamFailure as failure:
            log.warning("provider %s: work cannot be cancelled: %s", self._name, failure)
            return False
        if agreed and (watch := self._watches.get(submitted.id)) is not None:
            watch.hurry()
        return agreed

    async def aclose(self) -> None:
        """Close connections."""
        await self._account.lane.aclose()
        await self._wire.aclose()


class _Hint:
    """A URL that the provider was told to call, and what its calls wake."""

    def __init__(self, verifier: Verifier, secret: str | None) -> None:
        self._verifier = verifier
        self.secret = secret
        self.expected: Expected
        self._watch: Watch[Finished] | None = None
        self._early = False

    def take(self, headers: Mapping[str, str], body: bytes) -> bool:
        """Take a call, and look at the work soon; return whether it is the provider's."""
        if not self._verifier.believes(headers, body, self.secret):
            return False
        if self._watch is None:
            self._early = True  # it may call before it has answered
        else:
            self._watch.hurry()
        return True

    def attach(self, watch: Watch[Finished]) -> None:
        """Take note of what a call is to wake."""
        self._watch = watch
        if self._early:
            watch.hurry()


def _age(submitted: Submitted) -> float:
    """How many seconds ago the provider took it on, as far as clocks can be trusted."""
    age = 0.0
    with suppress(ValueError):
        age = time.time() - float(submitted.facts.get(AT, ""))
    return max(age, 0.0) if math.isfinite(age) else 0.0


def _known(known: Mapping[int, Submitted], call: Call) -> Submitted:
    """Return what another process submitted for a call; a call that is not among it may have been sent."""
    submitted = known.get(call.number)
    if submitted is None:
        raise lost("the gateway was interrupted while the provider was called")
    return submitted


def _limits(reply: Reply) -> Mapping[str, str]:
    return {name: value for name, value in reply.headers.items() if name.startswith(LIMIT_HEADERS)} or _NO_LIMITS
