"""Tasks: requests that are answered later, as their clients meet them: made, looked at, listed and cancelled.

What a task needs lies where every gateway on the same store and disk finds it, before its client has an answer: its
body in the storage, its money held, its order in the queue. `worker.py` does the work.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date

from gateway.domain.budget import Budget, Candidate, Denied, Held, Obstacle, Quota
from gateway.domain.denial import denial
from gateway.domain.errors import InvalidRequest, NotFound, Unavailable, ledger_unavailable
from gateway.domain.idempotency import Bound
from gateway.domain.page import page_limit
from gateway.domain.task import TaskOrder, TaskRecord, TaskStatus, request_of, task_of
from gateway.failpoint import reach
from gateway.images.linking import Linker
from gateway.ports import Answers, Headers, Ledger, LedgerUnavailable, Outbound, Settlements
from gateway.ports.provider import Conditions
from gateway.ports.storage import Blobs, StorageUnavailable
from gateway.ports.tasks import Tasks
from gateway.ports.tracing import TRACE_HEADERS
from gateway.request.answer_keeping import Whole
from gateway.request.context import own_headers
from gateway.request.duplicates import reused
from gateway.request.exchange import Admitted
from gateway.request.exhausted import cannot_hold
from gateway.routing.task_terms import TaskTerms
from gateway.steps.accept import LONGEST_WAIT
from gateway.steps.reserve import candidate
from gateway.steps.write import REPLAYED
from gateway.tasks.adding import NOT_QUEUED, add, take_back
from gateway.tasks.announcement import TaskAnnouncement
from gateway.tasks.answer import joined
from gateway.tasks.cancelling import Cancelling
from gateway.tasks.document import Document, document, headers_of, linked
from gateway.tasks.promise import promised

log = logging.getLogger(__name__)

PATH = "/v1/tasks/"
AHEAD = 60.0
"""Seconds for which money is held for a task that is being made; once it is in the queue, for as long as it waits."""
BODY_LOST = "task_body_lost"
"""The code of the error for a task of which nobody knows any more what it was to make."""
_SIGHT = 5.0
"""Seconds in which a task must be found that another request with the same key is making."""
_DECISIVE = (
    "x-gateway-job-type",
    "x-gateway-lane",
    "x-gateway-max-cost",
    "x-gateway-degrade",
    "x-gateway-tags",
)
"""Headers that decide something when the task is sent; credentials and all others stay behind."""


def body_name(request_id: str) -> str:
    """Return the name under which the body of a task lies in the storage."""
    return f"tasks/{request_id}"


@dataclass(frozen=True, slots=True)
class TaskService:
    """What tasks are made with and looked up by. `added` is told of each new one. One instance per process."""

    tasks: Tasks
    blobs: Blobs
    ledger: Ledger
    settlements: Settlements
    today: Callable[[], date]
    cancelling: Cancelling
    linker: Linker
    conditions: Conditions
    answers: Answers
    added: Callable[[], None] = lambda: None

    async def create(self, admitted: Admitted, terms: TaskTerms) -> Outbound:
        """Make a task of a request and return its answer; raises the error to show, and then nothing stays behind.

        It is done to its end even if its client leaves meanwhile. The request's body is freed.
        """
        announcement = TaskAnnouncement(self.ledger, admitted.exchange.orphan_name)
        try:
            answer = await asyncio.shield(asyncio.create_task(self._create(admitted, terms, announcement)))
        except asyncio.CancelledError:
            announcement.left()
            raise
        return announcement.handed(answer)

    async def _create(self, admitted: Admitted, terms: TaskTerms, announcement: TaskAnnouncement) -> Outbound:
        try:
            held = await self._hold(admitted)
            announcement.known(held.request_id if isinstance(held, Bound) else admitted.request_id)
            if isinstance(held, Bound):
                return await self._again(admitted, held, terms)
            try:
                order = await self._order(admitted, terms, held)
            except BaseException:
                announcement.known(None)
                await self._undo(admitted, held)
                raise
        finally:
            await admitted.body.aclose()
        reach("task_added")
        self.added()
        record = TaskRecord(order, TaskStatus.PENDING)
        route = admitted.exchange.quote.route.name if admitted.exchange.quote else ""
        estimated = self.conditions.latency(route, admitted.job)
        own = own_headers(admitted, self.today, held)
        return _answer(document(record, estimated=estimated), order.base, terms, own)

    async def _hold(self, admitted: Admitted) -> Held | Bound:
        """Hold the money alone: quotas and limits of routes count what is sent, not what waits."""
        exchange, quotes = admitted.exchange, admitted.ranked.quotes
        every = [candidate(quote, admitted.payer, asked=admitted.about()) for quote in quotes]
        never = tuple(tuple(_never_fits(each)) for each in every)
        answer: Held | Bound | Denied = Denied(never)
        if not all(never):
            of_money = [
                replace(each, lines=tuple(line for line in each.lines if isinstance(line.rule, Budget)))
                for each in every
            ]
            try:
                answer = await self.ledger.choose_and_hold(
                    admitted.request_id, of_money, about=admitted.about(), binding=exchange.binding, ahead=AHEAD
                )
            except LedgerUnavailable as error:
                raise cannot_hold() from error
        if isinstance(answer, Denied):
            payer = admitted.payer
            raise denial(answer, quotes, payer.job_type.degrade, may_degrade=payer.may_degrade)
        if isinstance(answer, Held):
            exchange.quote = quotes[answer.index]
        return answer

    async def _order(self, admitted: Admitted, terms: TaskTerms, held: Held) -> TaskOrder:
        """Keep the body and put the task in the queue."""
        inbound, caller, now = admitted.exchange.inbound, admitted.caller, time.time()
        rendered, quote = admitted.body.render({}), admitted.exchange.quote
        order = TaskOrder(
            request_id=admitted.request_id,
            project=admitted.project.name,
            key_id=caller.key_id,
            operation=str(inbound.operation),
            path_model=inbound.path_model,
            model=admitted.job.client_model or (quote.route.model.name if quote else ""),
            headers={n: inbound.headers[n] for n in _DECISIVE if n in inbound.headers} | dict(TRACE_HEADERS.get()),
            content_type=rendered.content_type,
            base=self.linker.base(inbound.headers),
            created=now,
            not_after=now + (terms.max_wait or LONGEST_WAIT),
            queued_hold=held.attempt,
            callback_url=terms.callback_url,
            key_job_type=caller.job_type,
            max_wait=terms.max_wait,
            n=admitted.job.n,
            most=promised(admitted.ranked.quotes),
        )
        try:
            await self.blobs.put(body_name(order.request_id), rendered.chunks())
        except StorageUnavailable as error:
            log.warning("the body of request %s cannot be kept: %s", order.request_id, error)
            message = "The gateway has no room to keep a request for later now; nothing was spent. Please try again."
            raise Unavailable(message, code="storage_unavailable", retry_after=5) from error
        try:
            await add(self.tasks, order)
        except LedgerUnavailable as error:
            take_back(self.tasks, order)
            raise cannot_hold() from error
        except ValueError as error:
            raise InvalidRequest(f"This request cannot wait for its answer: {error}.") from error
        return order

    async def _undo(self, admitted: Admitted, held: Held) -> None:
        """Give everything back; a task that was added although nobody heard of it finds neither body nor money."""
        await self.settlements.void(admitted.request_id, held.attempt, NOT_QUEUED)
        await self._forget(admitted.request_id)

    async def _forget(self, request_id: str) -> None:
        try:
            await self.blobs.delete(body_name(request_id))
        except StorageUnavailable as error:
            log.warning("the body of request %s stays behind: %s", request_id, error)

    async def _again(self, admitted: Admitted, bound: Bound, terms: TaskTerms) -> Outbound:
        """Answer by the task that an earlier request with the same key has made."""
        if not bound.same:
            raise reused()
        admitted.exchange.replayed = True
        until = time.monotonic() + _SIGHT
        while (record := await self._find(task_of(bound.request_id))) is None or await self._is_undone(record):
            if time.monotonic() > until:
                message = f"The task of {bound.request_id}, which this request repeats, is still being made."
                raise Unavailable(message, code="task_not_ready", retry_after=2)
            await asyncio.sleep(0.1)
        own = [("x-request-id", bound.request_id), REPLAYED]
        return _answer(await self._told(record), record.order.base, terms, own)

    async def _is_undone(self, record: TaskRecord) -> bool:
        """Tell whether a task's creation was taken back that the queue took all the same: it will never be done.

        The key is free again once its hold has been given back.
        """
        if record.attempt is not None or record.status in (TaskStatus.COMPLETED, TaskStatus.CANCELLED):
            return False
        if record.status is TaskStatus.FAILED:
            return record.error is not None and record.error.get("code") == BODY_LOST
        try:
            return await self.blobs.get(body_name(record.order.request_id)) is None
        except StorageUnavailable:
            return False

    async def _find(self, task_id: str) -> TaskRecord | None:
        try:
            return await self.tasks.find(task_id)
        except LedgerUnavailable as error:
            raise ledger_unavailable() from error

    async def _told(self, record: TaskRecord) -> Document:
        can_cancel = record.attempt is None or self.cancelling.possible(record)
        return document(replace(record, result=await linked(record, self.linker)), can_cancel=can_cancel)

    async def one(self, project: str, task_id: str, param: str = "id") -> TaskRecord:
        """Return a task of a project; NotFound, which names `param`, if it is unknown, forgotten, or another's."""
        record = await self._find(task_id) if request_of(task_id) is not None else None
        if record is None or record.order.project != project:
            raise NotFound(f"No task {task_id[:100]!r} is known for this project.", param=param, code="task_not_found")
        return record

    async def show(self, project: str, task_id: str) -> tuple[Document, Headers]:
        """Return a task as JSON, and headers for it."""
        record = await self.one(project, task_id)
        record = replace(record, result=await joined(self.answers, record.order.request_id, record.result))
        return await self._told(record), headers_of(record)

    async def listing(self, project: str, query: Mapping[str, str]) -> Document:
        """Return tasks of a project, newest first; `query` may have `limit`, `after` (an id) and `status`."""
        limit, after, status = page_limit(query.get("limit")), query.get("after"), _status(query.get("status"))
        if query.get("order", "desc") != "desc":
            raise InvalidRequest("Tasks are listed newest first: order takes desc alone.", param="order")
        if after is not None:
            await self.one(project, after, "after")
        try:
            found = await self.tasks.listed(project, after=after, limit=limit + 1, status=status)
        except LedgerUnavailable as error:
            raise ledger_unavailable() from error
        told = [await self._told(record) for record in found[:limit]]
        ids = [each["id"] for each in told]
        ends = {"first_id": ids[0] if ids else None, "last_id": ids[-1] if ids else None}
        return {"object": "list", "data": told, "has_more": len(found) > limit, **ends}

    async def cancel(self, project: str, task_id: str) -> tuple[Document, Headers]:
        """Cancel a task; return it and headers for it. Raises NotCancellable where it cannot be, with the reason."""
        record = await self.cancelling.cancel(await self.one(project, task_id))
        if record.status is TaskStatus.CANCELLED:
            await self._forget(record.order.request_id)
        return await self._told(record), headers_of(record)


def _never_fits(offered: Candidate) -> Iterator[Obstacle]:
    """Yield the limits that the request alone exceeds, whatever else is under way."""
    for line in offered.lines:
        if isinstance(line.rule, Quota) and line.amount > line.rule.limit:
            yield Obstacle(line, 0, 0, 0.0)


def _answer(told: Document, base: str, terms: TaskTerms, own: Headers) -> Outbound:
    """Return the answer that makes a task known: 202, or 200 for clients that expect it of every request.

    `base` is the URL under which the client reached the gateway: its path, where a proxy adds one, is `Location`'s.
    """
    body = json.dumps(told).encode()
    _, slash, prefix = base.partition("://")[2].partition("/")
    headers = [
        ("content-type", "application/json"),
        ("content-length", str(len(body))),
        ("Location", f"{slash}{prefix}{PATH}{told['id']}"),
        *([("Preference-Applied", "respond-async")] if terms.preferred else []),
    ]
    return Whole(200 if terms.always else 202, [*headers, *own], body).outbound()


def _status(text: str | None) -> TaskStatus | None:
    if text is not None and text not in list(TaskStatus):
        raise InvalidRequest(f"status must be one of {', '.join(TaskStatus)}.", param="status")
    return TaskStatus(text) if text is not None else None
