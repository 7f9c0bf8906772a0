"""Conversations: requests that lead one, and those that ask after a response, which go to the account that made it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from datetime import date
from typing import Protocol

from gateway.domain.caller import Caller
from gateway.domain.errors import InvalidRequest, NotFound, UpstreamError, UpstreamTimeout, ledger_unavailable
from gateway.domain.job import Job
from gateway.domain.policy import Policy, Project
from gateway.domain.settlement import Outcome
from gateway.domain.unsent_fields import ANSWER_FORM
from gateway.ports import Body, LedgerUnavailable, Outbound, Rendered, Truncated
from gateway.ports.provider import Conditions, UpstreamFailure
from gateway.ports.responses import PassthroughAccounts, PassthroughAnswer, PassthroughRequest, Remembered, Responses
from gateway.request.exchange import Admitted, Exchange
from gateway.responses.body import Document, ResponsesBody
from gateway.responses.following import Follower
from gateway.responses.request import converse, job_of, of_tool
from gateway.responses.response_tracker import StoredResponseTracker
from gateway.routing.decision import Asked
from gateway.steps.compatibility import modernized


class ConversationPlanner(Protocol):
    """What the path of a request needs of conversations."""

    async def admitted(
        self, exchange: Exchange, caller: Caller, project: Project, policy: Policy, body: Body
    ) -> Admitted:
        """Return the request, classified, priced and ranked; raises the error to show."""


@dataclass(frozen=True, slots=True)
class Conversations:
    """What every conversation of a process is served with."""

    responses: Responses
    accounts: PassthroughAccounts
    follower: Follower
    today: Callable[[], date]
    conditions: Conditions

    async def admitted(
        self, exchange: Exchange, caller: Caller, project: Project, policy: Policy, body: Body
    ) -> Admitted:
        """Return the request, classified, priced and ranked; raises the error to show."""
        if not isinstance(body, Document):
            raise InvalidRequest("Send a JSON object.", param="Content-Type")
        document = ResponsesBody(body)
        previous = await self._named(document.fields.get("previous_response_id"), "previous_response_id", project)
        cached = document.fields.get("prompt_cache_options")
        compared = cached.get(_COMPARED) if isinstance(cached, dict) else None
        await self._named(compared, f"prompt_cache_options.{_COMPARED}", project)
        seed, today = exchange.inbound.request_id, self.today()
        with of_tool(document):
            job = _meant(document, project, policy, today)
            asked = Asked(job, exchange.wishes, caller, project, policy, today, self.conditions, seed)
            found = converse(asked, document, previous)
        exchange.job, exchange.job_type, exchange.arm = found.job, found.job_type, found.ranked.arm
        exchange.tracker = StoredResponseTracker(
            self.responses,
            self.follower,
            exchange,
            project.name,
            found.job_type.name,
            project.multiplier,
            background=document.fields.get("background") is True,
        )
        return Admitted(exchange, caller, project, found.job, found.job_type, policy, found.ranked, found.body, today)

    async def ask(self, project: Project, response_id: str, passing: PassthroughRequest) -> Outbound:
        """Ask the account that made a response; NotFound for an unknown one, and for any other project's."""
        known = await self._find(response_id, project, "id")
        if passing.method == "DELETE" and known.terms is not None:
            await self.follower.settle_if_ended(known)  # nobody can ask for it afterwards
        answer = await _sent(self.accounts, known.provider, passing)
        if passing.method == "DELETE" and answer.status < FAILED:
            try:
                await self.responses.forget(response_id)
            except LedgerUnavailable as error:
                raise ledger_unavailable() from error
        return Outbound(answer.status, answer.headers, Through(answer))

    async def _named(self, named: object, param: str, project: Project) -> Remembered | None:
        if named is None:
            return None
        if not isinstance(named, str):
            raise InvalidRequest(f"{param} must be a string.", param=param)
        return await self._find(named, project, param)

    async def _find(self, response_id: str, project: Project, param: str) -> Remembered:
        try:
            known = await self.responses.find(response_id)
        except LedgerUnavailable as error:
            raise ledger_unavailable() from error
        if known is None or known.project != project.name:
            message = f"Response with id {response_id[:200]!r} not found."
            raise NotFound(message, param=param, code="response_not_found")
        return known


_COMPARED = "comparison_response_id"
"""The vendor tells how much of that response's prompt is this one's."""
FAILED = 400
"""The first HTTP status that is an error."""


def _meant(document: ResponsesBody, project: Project, policy: Policy, today: date) -> Job:
    """What the image tool is to make as it is meant now; the form of an image is nothing of a conversation's."""
    tool = {name: value for name, value in (document.tool or {}).items() if name != ANSWER_FORM}
    job = modernized(job_of(document), tool, project, policy, today)
    return replace(job, links=False) if job.links else job


async def _sent(accounts: PassthroughAccounts, provider: str, passing: PassthroughRequest) -> PassthroughAnswer:
    try:
        return await accounts.send(provider, passing)
    except UpstreamFailure as failure:
        raise unanswered(failure) from failure


def unanswered(failure: UpstreamFailure, *, may_repeat: bool = True) -> UpstreamError | UpstreamTimeout:
    """Return the error for a request that went through and was not answered, or whose answer is not for its client.

    Without `may_repeat` SDKs are told not to send it again by themselves, if it may have been done.
    """
    if failure.reason.startswith("account"):
        return UpstreamError(f"The gateway's own account was refused: {failure.message}.", should_retry=False)
    kind = UpstreamTimeout if failure.reason == "timeout" else UpstreamError
    if may_repeat or failure.outcome is not Outcome.UNKNOWN:
        return kind(f"The provider did not answer: {failure.message}.")
    message = f"The provider did not answer: {failure.message}. What was asked may have been done and billed."
    return kind(message, should_retry=False)


class Through(AsyncIterator[bytes]):
    """An answer as it comes; Truncated if it breaks off.

    Closing it lets go of the answer and of the request's body, even before anything was read: a generator would not.
    """

    def __init__(self, answer: PassthroughAnswer, body: Rendered | None = None) -> None:
        self._answer = answer
        self._body = body
        self._chunks = answer.chunks()

    async def __anext__(self) -> bytes:
        try:
            return await anext(self._chunks)
        except UpstreamFailure as failure:
            raise Truncated from failure

    async def aclose(self) -> None:
        """Let go; harmless when repeated."""
        await self._answer.aclose()
        if self._body is not None:
            await self._body.aclose()
