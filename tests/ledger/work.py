"""Tasks for tests: orders whose money is held ahead."""

from __future__ import annotations

import secrets
import time

from gateway.domain.budget import Candidate, Held
from gateway.domain.task import TaskOrder, task_of
from gateway.ledger.names import Names
from gateway.ledger.redis_ledger import RedisLedger
from gateway.ledger.store import Store
from gateway.ledger.tasks import RedisTasks
from tests.ledger.rules import ABOUT, budget, candidate

RULE = budget(10**9)
AMOUNT = 100


def new_request() -> str:
    """An id that no other request has."""
    return f"req_{secrets.token_hex(16)}"


def order(
    request_id: str, project: str = "p", *, hold: int = 1, url: str | None = None, waits: float = 3600
) -> TaskOrder:
    """What a client asked for, small as it mostly is."""
    now = time.time()
    return TaskOrder(
        request_id=request_id,
        project=project,
        key_id="key_1",
        operation="generate",
        path_model=None,
        model="a-model",
        headers={"x-gateway-max-cost": "0.10"},
        content_type="application/json",
        base="https://gateway.example",
        created=now,
        not_after=now + waits,
        queued_hold=hold,
        callback_url=url,
    )


async def held_ahead(ledger: RedisLedger, request_id: str, *offers: Candidate, ahead: float = 60) -> int:
    """Hold money for it for a while; returns the attempt."""
    answer = await ledger.choose_and_hold(request_id, offers or [candidate((RULE, AMOUNT))], about=ABOUT, ahead=ahead)
    assert isinstance(answer, Held)
    return answer.attempt


async def queued(
    ledger: RedisLedger, tasks: RedisTasks, project: str = "p", *, url: str | None = None, waits: float = 3600
) -> str:
    """Hold and queue a task as a gateway does; returns its id."""
    request_id = new_request()
    attempt = await held_ahead(ledger, request_id)
    await tasks.add(order(request_id, project, hold=attempt, url=url, waits=waits))
    return task_of(request_id)


def watchful(tasks: RedisTasks) -> RedisTasks:
    """Let it have been in touch with the store for long, so that it may call others silent."""
    tasks._contact._since -= 10_000
    return tasks


_SILENT = """
for _, project in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  local queue = ARGV[1] .. project
  for _, row in ipairs(redis.call('XPENDING', queue, 'workers', '-', '+', 100000)) do
    if ARGV[2] == '' or ARGV[2] == row[2] then
      redis.call('XCLAIM', queue, 'workers', row[2], 0, row[1], 'IDLE', 3600000, 'JUSTID')
    end
  end
  redis.call('ZADD', KEYS[1], 1, project)
end
"""


async def fall_silent(store: Store, realm: str, worker: str = "") -> None:
    """Let this worker, or everybody who has a task now, not have been heard of for an hour."""
    names = Names(realm)
    await store.execute("EVAL", _SILENT, 1, names.task_looks, names.queue(""), worker)
