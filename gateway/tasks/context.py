"""Context: the collaborators that all tasks of a process share."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

from gateway.domain.caller import Caller
from gateway.domain.errors import GatewayError
from gateway.domain.policy import Policy, Project
from gateway.domain.task import TaskOrder
from gateway.lifecycle import Setup
from gateway.ports import Body
from gateway.ports.storage import Blobs
from gateway.ports.tasks import Tasks
from gateway.request.batching import Gates
from gateway.request.context import FlightContext
from gateway.request.planning import RequestPlanner

ReadBody = Callable[[str, AsyncIterator[bytes]], Awaitable[Body]]
"""Reads a kept body again: its content type and its bytes."""
ROLL_OUT = 900.0
"""Seconds for which gateways may serve different policies, as alerts have it too."""


class NotHere(Exception):
    """The task is not this worker's any more: somebody else has it, it has ended, or it is to be given back."""


@dataclass(frozen=True, slots=True)
class TaskContext:
    """The collaborators that all tasks of a process share."""

    tasks: Tasks
    blobs: Blobs
    read_body: ReadBody
    planner: RequestPlanner
    current: Callable[[], Setup]
    flight_context: FlightContext
    gates: Gates = field(default_factory=Gates)
    met: set[str] = field(default_factory=set)
    """Projects that this process's policy has had at some time."""

    async def project(self, caller: Caller, policy: Policy) -> Project:
        """Return the project of a task's caller; raises the error to show if it or the key is there no more."""
        return await self.flight_context.entitlement.project(caller, policy)

    def is_early(self, error: GatewayError, order: TaskOrder) -> bool:
        """Tell whether a task met with a policy that may only be about to have its project, as others have it."""
        unmet = error.code == "project_not_found" and order.project not in self.met
        return unmet and time.time() < order.created + ROLL_OUT

    async def serves(self, project: str, key_id: str) -> bool:
        """Tell whether work may be sent for a project and a key, by the policy of now; Unavailable if nobody can."""
        return project in self.current().policy.projects and await self.flight_context.entitlement.still(key_id)

    async def holds(self, task_id: str, token: str) -> bool:
        """Tell whether a task is this worker's still; LedgerUnavailable if nobody can."""
        return not (await self.tasks.keep({task_id: token})).lost
