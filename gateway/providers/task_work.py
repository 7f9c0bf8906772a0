"""Task work: what one look at work finds, and what that means."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from http import HTTPStatus
from typing import Final

from gateway.domain.json_path import first, found
from gateway.domain.task_profile import Fault, TaskProfile, TaskState, UrlPurpose
from gateway.ports.provider import Call, Submitted, UpstreamFailure
from gateway.providers.outcome import CALLERS_FAULT, retry_after
from gateway.providers.poller import Lane
from gateway.providers.task_cost import reading_of
from gateway.providers.task_images import links_of
from gateway.providers.task_outcome import error_code, error_message, fault_of, lost, of_fault
from gateway.providers.task_wire import Reply, TaskWire

log = logging.getLogger("gateway.providers")

SENT: Final = "sent"
"""The fact of submitted work that is how many bytes its request had: what tells of the work may repeat them."""
MISSES: Final = 5
"""How often in a row a provider says that it knows no such work before it is believed."""
_REST = 5.0
"""Seconds that all looks at an account rest after a 429 that does not say how long."""
_MOST_WORDS = 100
_LONGEST_WORD = 64
_UNKNOWN_HERE = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.GONE})
_BY_STATE = {TaskState.MODERATED: Fault.MODERATED, TaskState.CANCELLED: Fault.CANCELLED}


class Words:
    """What one provider's words for states mean; one that is not known is told of once, and counts as running."""

    def __init__(self, provider: str, profile: TaskProfile) -> None:
        self._provider = provider
        self._profile = profile
        self._strange: set[str] = set()

    def state(self, document: object) -> tuple[TaskState, str]:
        """Return the state that a document tells, and the word for it."""
        value = first(document, self._profile.state)
        word = value[:_LONGEST_WORD] if isinstance(value, str) else ""
        state = self._profile.states.get(word)
        if state is None and word not in self._strange and len(self._strange) < _MOST_WORDS:
            self._strange.add(word)
            log.warning("provider %s: unknown state of work %r, taken for running", self._provider, word)
        return state or TaskState.RUNNING, word


@dataclass(frozen=True, slots=True)
class Finished:
    """The document that holds the result, as it came; header names are lower case."""

    document: object
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class TaskAccount:
    """What all work at one account has in common."""

    profile: TaskProfile
    wire: TaskWire
    words: Words
    lane: Lane


class Work:
    """One piece of work that was submitted for a call."""

    __slots__ = ("_call", "_lane", "_misses", "_profile", "_progress", "_sent", "_submitted", "_wire", "_words")

    def __init__(self, account: TaskAccount, call: Call, submitted: Submitted) -> None:
        self._profile, self._wire = account.profile, account.wire
        self._words, self._lane = account.words, account.lane
        self._call = call
        self._submitted = submitted
        self._sent = int(submitted.facts.get(SENT, 0))
        self._misses = 0
        self._progress = 0

    async def look(self) -> Finished | None:
        """Look once: the result if it is there, None if it is not or nobody knows; UpstreamFailure if it has failed.

        What goes wrong with the look itself says nothing of the work.
        """
        reply = await self._get(UrlPurpose.STATUS)
        if reply is None or not isinstance(reply.document, dict) or self._is_of_other_work(reply.document):
            return None
        state, word = self._words.state(reply.document)
        self._advance(reply.document)
        match state:
            case TaskState.SUCCEEDED:
                return await self._finished(reply)
            case TaskState.FAILED | TaskState.MODERATED | TaskState.CANCELLED:
                raise self._failed(reply, state, word)
            case TaskState.MISSING:
                self._miss()
            case TaskState.QUEUED | TaskState.RUNNING:
                self._misses = 0
        return None

    def _is_of_other_work(self, document: object) -> bool:
        """Tell whether a document names other ids than the one that was told for this work, and not that one."""
        values = [value for path in self._profile.id for value in found(document, path)]
        named = [str(value) for value in values if isinstance(value, str | int) and value]
        if not named or self._submitted.id in named:
            return False
        log.warning("work %s: the provider answered with other work, %.80r", self._submitted.id, named[0])
        return True

    async def _get(self, purpose: UrlPurpose) -> Reply | None:
        """Read a document; None if it did not come this time."""
        url = self._wire.url_of(purpose, self._submitted, self._call.route.upstream_model)
        if url is None:
            raise lost("the provider told no URL of its own for the work that it took on", "garbage")
        try:
            reply = await self._wire.get(url, self._sent)
        except UpstreamFailure as failure:
            log.info("work %s could not be looked at: %s", self._submitted.id, failure)
            return None
        if reply.status == HTTPStatus.TOO_MANY_REQUESTS:
            asked = retry_after(reply.headers)
            self._lane.rest(_REST if asked is None else asked)
        elif reply.status in _UNKNOWN_HERE:
            self._miss()
        elif reply.success and reply.cut and reply.document is None:
            raise self._too_long()
        elif reply.success:
            return reply
        elif purpose is UrlPurpose.RESULT:
            self._judge_refusal(reply)
        return None

    def _too_long(self) -> UpstreamFailure:
        """What tells of the work would be as long the next time, and is not read."""
        message = "the provider tells of the work in a document that is too long"
        log.warning("work %s: %s", self._submitted.id, message)
        return lost(message, "too_large")

    def _miss(self) -> None:
        """Take note that the provider knows no such work; raises once it said so several times in a row."""
        self._misses += 1
        if self._misses >= MISSES:
            raise lost("the provider no longer knows the work that it took on")

    async def _finished(self, reply: Reply) -> Finished | None:
        """Return the result of work that has ended well, unless it says that it has not after all."""
        separate = UrlPurpose.RESULT in self._submitted.urls or UrlPurpose.RESULT in self._profile.urls
        if separate and error_code(self._profile, reply.document) is not None:
            raise self._failed(await self._with_charge(reply), TaskState.FAILED, "")
        if separate:
            result = await self._get(UrlPurpose.RESULT)
            if result is None or not isinstance(result.document, dict):
                return None
            reply = result
        if not links_of(self._profile, reply.document) and error_code(self._profile, reply.document) is not None:
            raise self._failed(reply, TaskState.FAILED, "")
        return Finished(reply.document, reply.headers)

    async def _with_charge(self, reply: Reply) -> Reply:
        """Return what tells of a failure, with the headers of what stands for a result: they tell the charge."""
        url = self._wire.url_of(UrlPurpose.RESULT, self._submitted, self._call.route.upstream_model)
        if url is None:
            return reply
        try:
            result = await self._wire.get(url, self._sent)
        except UpstreamFailure as failure:
            log.info("the charge for work %s that failed is not known: %s", self._submitted.id, failure)
            return reply
        return replace(reply, headers={**reply.headers, **result.headers})

    def _judge_refusal(self, reply: Reply) -> None:
        """Raise if the answer in place of a result says that the work has failed; else it may come yet.

        By its status alone only a JSON object does: any other answer is not the provider's, but of what lies between.
        """
        code, message = error_code(self._profile, reply.document), error_message(self._profile, reply.document, None)
        refused = reply.status in CALLERS_FAULT and isinstance(reply.document, dict)
        if refused or fault_of(self._profile, message, code) is not None:
            raise self._failed(reply, TaskState.FAILED, "", otherwise=Fault.INVALID)

    def _failed(self, reply: Reply, state: TaskState, word: str, otherwise: Fault | None = None) -> UpstreamFailure:
        profile, secret = self._profile, self._wire.secret
        code = error_code(profile, reply.document)
        default = _BY_STATE.get(state) or otherwise or profile.otherwise
        reading = reading_of(profile, self._submitted, reply.document, reply.headers)
        message = error_message(profile, reply.document, secret)
        fault = fault_of(profile, message, code, word) or default
        return of_fault(fault, code or word or state.value, message, reading)

    def _advance(self, document: object) -> None:
        """Tell how far it is, where somebody wants to know."""
        submissions, value = self._call.submissions, first(document, self._profile.progress)
        progress = None if submissions is None else percent_of(value)
        if submissions is not None and progress is not None and progress > self._progress:
            self._progress = progress
            submissions.advanced(self._call.number, progress)


def percent_of(value: object) -> int | None:
    """Return how far work is, 0 to 100, from a share up to 1 or a percentage; None for what is no number."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        return None
    percent = value * 100 if isinstance(value, Decimal) and 0 < value <= 1 else value
    return int(min(max(percent, 0), 100))  # bounded first: a decimal's exponent may stand for gigabytes of digits
