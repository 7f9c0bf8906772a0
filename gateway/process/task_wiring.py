"""Task wiring: the parts by which one process makes tasks and works on them, joined."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date

from gateway.domain.route import Route
from gateway.images.linking import Linker
from gateway.ledger.store import Store
from gateway.ledger.tasks import RedisTasks
from gateway.lifecycle import Lifecycle, Setup
from gateway.observe.event import Observer
from gateway.ports import Answers, Ledger, Settlements
from gateway.ports.provider import Conditions, Provider
from gateway.ports.storage import Blobs
from gateway.tasks.cancelling import Cancelling
from gateway.tasks.run import TaskContext
from gateway.tasks.service import TaskService
from gateway.tasks.worker import TaskWorker
from gateway.web.body import read_kept


class TaskWiring:
    """`current` returns the setup that serves now, `blobs` is what gateways that share a store share.

    Whoever is not heard of for `silence` seconds loses its tasks to others.
    """

    def __init__(
        self,
        store: Store,
        realm: str,
        blobs: Blobs,
        current: Callable[[], Setup],
        observer: Observer,
        *,
        silence: float = 30.0,
    ) -> None:
        self.queue = RedisTasks(store, realm, silence=silence, observer=observer)
        self._keep_every = silence / 6
        self._blobs = blobs
        self._current = current
        self._observer = observer
        self._worker: TaskWorker | None = None

    def task_service(
        self,
        ledger: Ledger,
        settlements: Settlements,
        today: Callable[[], date],
        linker: Linker,
        conditions: Conditions,
        *,
        answers: Answers,
    ) -> TaskService:
        """Return what makes tasks and tells of them."""
        return TaskService(
            tasks=self.queue,
            blobs=self._blobs,
            ledger=ledger,
            settlements=settlements,
            today=today,
            cancelling=Cancelling(self.queue, ledger, settlements, self._served_by, self._observer),
            linker=linker,
            conditions=conditions,
            answers=answers,
            added=self._added,
        )

    def _added(self) -> None:
        if self._worker is not None:
            self._worker.wake()

    def _served_by(self, name: str) -> tuple[Route, Provider] | None:
        setup = self._current()
        route = setup.policy.routes.get(name)
        provider = setup.providers.get(route.provider.name) if route is not None else None
        return (route, provider) if route is not None and provider is not None else None

    def start_worker(self, lifecycle: Lifecycle, tell_waiting: Callable[[int], None]) -> None:
        """Let tasks be worked on with what requests are served with; see `TaskWorker`."""
        context = TaskContext(
            self.queue, self._blobs, read_kept, lifecycle.planner, self._current, lifecycle.flight_context
        )
        self._worker = TaskWorker(context, keep_every=self._keep_every, tell_waiting=tell_waiting)

    def rest(self) -> None:
        """Leave the work to other processes."""
        if self._worker is not None:
            self._worker.rest()

    async def run(self) -> None:
        """Work on tasks until cancelled."""
        if self._worker is not None:
            await self._worker.run()

    async def aclose(self, grace: float) -> None:
        """Finish what was sent, within `grace` seconds, and give back the rest."""
        if self._worker is not None:
            await self._worker.aclose(grace)
