"""Task shop: what every task of a process is worked on with."""

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
from gateway.request.means import Means
from gateway.request.understanding import Understanding
from gateway.routing.decision import project_of

ReadBody = Callable[[str, AsyncIterator[bytes]], Awaitable[Body]]
"""Reads a kept body again: its content type and its bytes."""
ROLL_OUT = 900.0
"""Seconds for which gateways may serve different policies, as alerts have it too."""


class NotHere(Exception):
    """The task is not this worker's any more: somebody else has it, it has ended, or it is to be given back."""


@dataclass(frozen=True, slots=True)
class Workshop:
    """What every task of a process is worked on with."""

    tasks: Tasks
    blobs: Blobs
    read_body: ReadBody
    understanding: Understanding
    current: Callable[[], Setup]
    means: Means
    gates: Gates = field(default_factory=Gates)
    met: set[str] = field(default_factory=set)
    """Projects that this process's policy has had at some time."""

    async def project(self, caller: Caller, policy: Policy) -> Project:
        """Return the project of a task's caller; raises the error to show if it or the key is there no more."""
        entitlement = self.means.entitlement
        return project_of(caller, policy) if entitlement is None else await entitlement.project(caller, policy)

    def is_early(self, error: GatewayError, order: TaskOrder) -> bool:
        """Tell whether a task met with a policy that may only be about to have its project, as others have it."""
        unmet = error.code == "project_not_found" and order.project not in self.met
        return unmet and time.time() < order.created + ROLL_OUT

    async def serves(self, project: str, key_id: str) -> bool:
        """Tell whether work may be sent for a project and a key, by the policy of now; Unavailable if nobody can."""
        entitlement = self.means.entitlement
        known = project in self.current().policy.projects
        return known and (entitlement is None or await entitlement.still(key_id))

    async def holds(self, task_id: str, token: str) -> bool:
        """Tell whether a task is this worker's still; LedgerUnavailable if nobody can."""
        return not (await self.tasks.keep({task_id: token})).lost
