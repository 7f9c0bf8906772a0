"""Service: all that the data plane answers, for a key: images, models, and what a request cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time

from gateway.callbacks.hints import HintBoard, Take
from gateway.domain.caller import Caller
from gateway.domain.errors import NotFound, Retired, ledger_unavailable
from gateway.domain.job import JOB_PREFIX
from gateway.domain.links import SIGNATURE
from gateway.domain.naming import is_retired
from gateway.domain.policy import Policy, Project
from gateway.domain.route import Model
from gateway.images.archive import Archives
from gateway.images.stored_images import StoredImages, deleted, listing
from gateway.lifecycle import Lifecycle, Setup
from gateway.ports import Headers, Keyring, Ledger, LedgerUnavailable, Outbound
from gateway.ports.responses import PassthroughRequest
from gateway.responses.passthrough import OtherEndpoints
from gateway.routing.decision import project_of
from gateway.routing.explanation import record
from gateway.steps.accept import accept, check_for_real
from gateway.steps.authenticate import authenticate
from gateway.tasks.service import TaskService

VARIATIONS_RETIRED = date(2026, 5, 12)
"""The endpoint served dall-e-2 alone, which was shut down that day (the vendor's SDK, `types/image_model.py`)."""


class Service:
    """Implements `facade.Gateway`."""

    def __init__(
        self,
        *,
        lifecycle: Lifecycle,
        current: Callable[[], Setup],
        keyring: Keyring,
        ledger: Ledger,
        today: Callable[[], date],
        archives: Archives,
        hints: HintBoard,
        task_service: TaskService,
        other_endpoints: OtherEndpoints,
    ) -> None:
        self._lifecycle = lifecycle
        self.handle = lifecycle.handle
        """Runs one image request."""
        self._current = current
        self._keyring = keyring
        self._ledger = ledger
        self._today = today
        self._archives = archives
        self._linker = archives.linker
        self._hints = hints
        self._task_service = task_service
        self._other_endpoints = other_endpoints
        self._leaving = False

    async def models(self, headers: Mapping[str, str]) -> list[dict[str, object]]:
        """List the models that the key's project is served by, and its job types."""
        project = await self._project(headers)
        policy = self._current().policy
        served = _served(project, policy)
        models = [_model(model, owners) for model, owners in served.values() if not is_retired(model, self._today())]
        return models + [_job_type(name) for name in project.job_types]

    async def model(self, headers: Mapping[str, str], name: str) -> dict[str, object]:
        """Return one of them, by its name or the snapshot's, under the name that it was asked for by."""
        models = await self.models(headers)
        for member in ("id", "snapshot"):
            for model in models:
                if model.get(member) == name:
                    return model | {"id": name}
        message = f"The model {name!r} does not exist or you do not have access to it."
        raise NotFound(message, param="model", code="model_not_found")

    async def request_record(self, headers: Mapping[str, str], request_id: str) -> dict[str, object]:
        """Return what became of one request of the key's own project."""
        project = await self._project(headers)
        try:
            kept = await self._ledger.request(request_id)
        except LedgerUnavailable as error:
            raise ledger_unavailable() from error
        about = kept.get("about") if kept else None
        stored = StoredImages(self._archives, project, self._current().policy, headers)
        if kept is None and (cached := await stored.record(request_id)) is not None:
            return cached
        if kept is None or not isinstance(about, dict) or about.get("project") != project.name:
            raise NotFound(f"No request {request_id!r} is known for this project.", param="id")
        return record(kept) | await stored.of(request_id)

    async def task(self, headers: Mapping[str, str], task_id: str) -> tuple[dict[str, object], Headers]:
        """Return a task of the key's own project, and headers for it."""
        project = await self._project(headers)
        return await self._task_service.show(project.name, task_id)

    async def tasks(self, headers: Mapping[str, str], query: Mapping[str, str]) -> dict[str, object]:
        """List the tasks of the key's own project."""
        project = await self._project(headers)
        return await self._task_service.listing(project.name, query)

    async def cancel_task(self, headers: Mapping[str, str], task_id: str) -> tuple[dict[str, object], Headers]:
        """Cancel a task of the key's own project, and return it with headers for it."""
        project = await self._project(headers)
        check_for_real(accept(headers))
        return await self._task_service.cancel(project.name, task_id)

    async def asset(self, headers: Mapping[str, str], name: str, query: Mapping[str, str]) -> Outbound:
        """Return a stored image, by its signed link or by a key of its project."""
        project = None if SIGNATURE in query else (await self._project(headers)).name
        return await self._linker.follow(name, query, project, headers)

    async def assets(self, headers: Mapping[str, str], query: Mapping[str, str]) -> dict[str, object]:
        """List the stored images of the key's own project."""
        project = await self._project(headers)
        return await listing(self._linker, project.name, self._linker.base(headers), query)

    async def delete_asset(self, headers: Mapping[str, str], name: str) -> dict[str, object]:
        """Delete a stored image of the key's own project."""
        project = await self._project(headers)
        check_for_real(accept(headers))
        return await deleted(self._linker, project.name, name)

    async def response(self, headers: Mapping[str, str], response_id: str, passing: PassthroughRequest) -> Outbound:
        """Ask the account that made a response of the key's own project."""
        project = await self._project(headers)
        if passing.method in ("DELETE", "POST"):
            check_for_real(accept(headers))
        return await self._other_endpoints.conversations.ask(project, response_id, passing)

    async def passed(self, headers: Mapping[str, str], passing: PassthroughRequest, received: float) -> Outbound:
        """Let a request go through as it is."""

        async def who(known: Caller | None) -> tuple[Caller, Project, Policy]:
            if known is not None:
                policy = self._current().policy
                return known, await self._lifecycle.entitlement.project(known, policy), policy
            caller, policy = await authenticate(headers, self._keyring), self._current().policy
            return caller, project_of(caller, policy), policy

        return await self._other_endpoints.passthrough.send(passing, headers, received, who)

    def hint(self, token: str) -> Take | None:
        """Return who waits for a provider's call."""
        return self._hints.find(token)

    async def variations(self, headers: Mapping[str, str]) -> None:
        """Refuse what the vendor no longer offers."""
        await self._project(headers)
        message = (
            f"Image variations were retired by their vendor on {VARIATIONS_RETIRED}. "
            "Call POST /v1/images/edits with the image and a prompt that says what should vary."
        )
        raise Retired(message, should_retry=False)

    def leave(self) -> None:
        """Not be ready from now on, while everything is served as before."""
        self._leaving = True

    async def ready(self, *, openly: bool = False) -> list[str]:
        """Name what stands in the way of serving; where the store is and how it fails only `openly`."""
        if self._leaving or self._lifecycle.draining:
            return ["shutting down"]
        try:
            await self._ledger.ping()
        except LedgerUnavailable as error:
            return [f"ledger: {error}" if openly else "the ledger is not available"]
        return []

    async def _project(self, headers: Mapping[str, str]) -> Project:
        caller = await authenticate(headers, self._keyring)
        return project_of(caller, self._current().policy)


def _served(project: Project, policy: Policy) -> dict[str, tuple[Model, list[str]]]:
    served: dict[str, tuple[Model, list[str]]] = {}
    for name in project.job_types:
        for route in policy.job_types[name].routes:
            if route.lane in project.lanes:
                _, owners = served.setdefault(route.model.name, (route.model, []))
                if route.provider.name not in owners:
                    owners.append(route.provider.name)
    return served


def _model(model: Model, owners: list[str]) -> dict[str, object]:
    since = min((price.valid_from for price in model.prices), default=date(1970, 1, 1))
    return {
        "id": model.name,
        "object": "model",
        "created": int(datetime.combine(since, time.min, UTC).timestamp()),
        "owned_by": ",".join(owners),
        "shutdown_date": model.retires.isoformat() if model.retires else None,
        "snapshot": model.snapshot,
    }


def _job_type(name: str) -> dict[str, object]:
    return {
        "id": f"{JOB_PREFIX}{name}",
        "object": "model",
        "created": 0,
        "owned_by": "image-gateway",
        "shutdown_date": None,
    }
