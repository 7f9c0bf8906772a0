"""The admin plane's answer to what would become of a request, under the policy that serves and the budgets of now."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

from gateway.config.policy_test_cases import HEADERS
from gateway.config.problems import shown
from gateway.domain.errors import InvalidRequest
from gateway.domain.job import OF_MODELS, Operation
from gateway.domain.spelling import meant
from gateway.process.app import Application
from gateway.process.today import today
from gateway.routing.dry_run import PAPER_KEY, Sketch, Undecided, dry_run
from gateway.routing.explanation import explanation_now, refusal

_HEADERS = {name.lower(): name for name in (*HEADERS, "X-Gateway-Dry-Run")}
FIELDS = ("project", "request", "operation", "headers", "key", "key_job_type", "date")


async def explain(application: Application, asked: Mapping[str, object]) -> dict[str, object]:
    """Answer `{project, request, …}`: the decision as a dry run has it, or why there is none; InvalidRequest."""
    unknown = sorted(asked.keys() - set(FIELDS))
    if unknown:
        raise InvalidRequest(f"Unknown field {unknown[0]!r}; known are {', '.join(FIELDS)}.", param=unknown[0])
    sketch, day = _sketch(asked), _text(asked, "date")
    try:
        on = date.fromisoformat(day) if day else today()
    except ValueError as error:
        raise InvalidRequest("date must be a day such as 2026-11-20.", param="date") from error
    try:
        decided = dry_run(sketch, application.policy, on)
    except Undecided as undecided:
        return {"project": sketch.project, **refusal(undecided)}
    # Budgets stand where they stand today, which says nothing of another day's windows.
    return await explanation_now(decided, application.ledger.balances if on == today() else None)


def _sketch(asked: Mapping[str, object]) -> Sketch:
    request, headers, project = asked.get("request"), asked.get("headers") or {}, _text(asked, "project")
    if not project:
        raise InvalidRequest("project is missing: whose request it is.", param="project")
    if not isinstance(request, dict):
        raise InvalidRequest("request must be the object that a client would send.", param="request")
    if not isinstance(headers, dict) or not all(isinstance(value, str) for value in headers.values()):
        raise InvalidRequest("headers must be an object of texts.", param="headers")
    for name in headers:
        if name.lower().startswith("x-gateway-") and name.lower() not in _HEADERS:
            near = meant(name.lower(), _HEADERS)  # all begin alike, so that any of them is like any other
            hint = f" (did you mean {_HEADERS[near]}?)" if near else f"; known are {', '.join(HEADERS)}"
            raise InvalidRequest(f"Unknown header {shown(name)}{hint}.", param=f"headers.{name}")
    operation = _text(asked, "operation") or Operation.GENERATE.value
    if operation not in OF_MODELS:
        raise InvalidRequest(f"operation must be one of {', '.join(OF_MODELS)}.", param="operation")
    return Sketch(
        project=project,
        fields=request,
        headers={name.lower(): value for name, value in headers.items()},
        operation=Operation(operation),
        key=_text(asked, "key") or PAPER_KEY,
        key_job_type=_text(asked, "key_job_type"),
    )


def _text(asked: Mapping[str, object], name: str) -> str | None:
    value = asked.get(name)
    if value is not None and not isinstance(value, str):
        raise InvalidRequest(f"{name} must be text.", param=name, code="invalid_type")
    return value
