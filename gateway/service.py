"""Service: all that the data plane answers, for a key: images, models, and what a request cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time

from gateway.decision import project_of
from gateway.domain.errors import NotFound, Retired, Unavailable
from gateway.domain.job import JOB_PREFIX
from gateway.domain.links import SIGNATURE
from gateway.domain.policy import Policy, Project
from gateway.domain.route import Model
from gateway.explanation import record
from gateway.lifecycle import Lifecycle, Setup
from gateway.linking import Linker
from gateway.ports import Inbound, Keyring, Ledger, LedgerUnavailable, Outbound
from gateway.steps.authenticate import authenticate

VARIATIONS_RETIRED = date(2026, 5, 12)
"""The endpoint served dall-e-2 alone, which was shut down that day (the vendor's SDK, `types/image_model.py`)."""


class Service:
    """Implements `front.Gateway`."""

    def __init__(
        self,
        *,
        lifecycle: Lifecycle,
        current: Callable[[], Setup],
        keyring: Keyring,
        ledger: Ledger,
        today: Callable[[], date],
        linker: Linker | None = None,
    ) -> None:
        self._lifecycle = lifecycle
        self._current = current
        self._keyring = keyring
        self._ledger = ledger
        self._today = today
        self._linker = linker

    async def handle(self, inbound: Inbound) -> Outbound:
        """Run one image request."""
        return await self._lifecycle.handle(inbound)

    async def models(self, headers: Mapping[str, str]) -> list[dict[str, object]]:
        """List the models that the key's project is served by, and its job types."""
        project = await self._project(headers)
        policy = self._current().policy
        served = _served(project, policy)
        models = [_model(model, owners) for model, owners in served.values() if not _is_over(model, self._today())]
        return models + [_job_type(name) for name in project.job_types]

    async def model(self, headers: Mapping[str, str], name: str) -> dict[str, object]:
        """Return one of them."""
        for model in await self.models(headers):
            if model["id"] == name:
                return model
        message = f"The model {name!r} does not exist or you do not have access to it."
        raise NotFound(message, param="model", code="model_not_found")

    async def request_record(self, headers: Mapping[str, str], request_id: str) -> dict[str, object]:
        """Return what became of one request of the key's own project."""
        project = await self._project(headers)
        try:
            kept = await self._ledger.request(request_id)
        except LedgerUnavailable as error:
            raise Unavailable("The ledger does not answer.", code="ledger_unavailable", retry_after=2) from error
        about = kept.get("about") if kept else None
        if kept is None or not isinstance(about, dict) or about.get("project") != project.name:
            raise NotFound(f"No request {request_id!r} is known for this project.", param="id")
        return record(kept)

    async def asset(self, headers: Mapping[str, str], name: str, query: Mapping[str, str]) -> Outbound:
        """Return a stored image, by its signed link or by a key of its project."""
        project = None if SIGNATURE in query else (await self._project(headers)).name
        if self._linker is None:
            raise NotFound("No images are kept here.", param="id")
        return await self._linker.follow(name, query, project)

    async def variations(self, headers: Mapping[str, str]) -> None:
        """Refuse what the vendor no longer offers."""
        await self._project(headers)
        message = (
            f"Image variations were retired by their vendor on {VARIATIONS_RETIRED}. "
            "Call POST /v1/images/edits with the image and a prompt that says what should vary."
        )
        raise Retired(message, should_retry=False)

    async def ready(self) -> list[str]:
        """Name what stands in the way of serving."""
        if self._lifecycle.draining:
            return ["shutting down"]
        try:
            await self._ledger.ping()
        except LedgerUnavailable as error:
            return [f"ledger: {error}"]
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


def _is_over(model: Model, today: date) -> bool:
    return model.retires is not None and model.retires <= today


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
