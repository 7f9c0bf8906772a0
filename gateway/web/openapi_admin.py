"""What the admin plane's paths take and answer, for its description. The console's own are no interface."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.domain.budget import View, Window
from gateway.web.openapi import JSON, PATH, Content, Operation, Plane, Schema, listing, query, ref, text, thing, whole

CONSOLE = "/console"
_GUARDED = (401, 403, 429)
_USD = text(pattern=r"^-?[0-9]+(\.[0-9]+)?$")
_ROW = thing(["requests", "images", "route_usd"], requests=whole(), images=whole(), route_usd=_USD)
_KEY: Mapping[str, Schema] = {
    "id": text(),
    "project": text(),
    "name": text(),
    "job_type": {"type": ["string", "null"]},
    "state": text(enum=["live", "revoked", "expired"]),
    "created": text(format="date-time"),
    "revoked": {"type": ["string", "null"], "format": "date-time"},
    "expires": {"type": ["string", "null"], "format": "date-time"},
}

_SCHEMAS: Mapping[str, Schema] = {
    "Ready": thing(["status"], status=text()),
    "Spend": {
        "anyOf": [
            thing(["by", "rows", "total"], by=listing(text()), rows=listing(thing())),
            thing(["experiment"], experiment=text()),
        ]
    },
    "Budgets": listing(
        thing(
            ["scope", "window", "view", "limit_usd", "used_usd", "held_usd", "left_usd"],
            scope=text(),
            window=text(),
            view=text(enum=[str(view) for view in View]),
            limit_usd=_USD,
            used_usd=_USD,
            held_usd=_USD,
            left_usd=_USD,
        )
    ),
    "Routes": listing(
        thing(
            ["route", "available", "health", "limits"],
            route=text(),
            health={"type": ["object", "null"]},
            limits=listing(thing()),
        )
    ),
    "Callbacks": thing(
        ["waiting", "dead", "data"],
        waiting=whole(),
        dead=whole(),
        data=listing(
            thing(["id", "project", "task", "url"], id=text(), project=text(), task=text(), url=text(), tries=whole())
        ),
    ),
    "Retried": thing(["id", "status"], id=text(), status=text()),
    "Key": thing(list(_KEY), **_KEY),
    "Keys": listing(ref("Key")),
    "NewKey": thing([*_KEY, "key"], **_KEY, key=text()),
    "KeyWish": thing(
        ["project"],
        project=text(minLength=1),
        name=text(maxLength=100),
        job_type={"type": ["string", "null"]},
    ),
    "Rotation": thing(grace={"type": "number", "minimum": 0, "maximum": 2_592_000}),
    "Question": thing(
        ["project", "request"],
        project=text(minLength=1),
        request=thing(prompt=text(), size=text(), quality=text(), n=whole(1, 10)),
        operation=text(enum=["generate", "edit"]),
        headers={"type": "object", "additionalProperties": text()},
        key=text(),
        key_job_type=text(),
        date=text(format="date"),
    ),
    "Decision": thing(["candidates", "passed_over"], candidates=listing(thing()), passed_over=listing(thing())),
    "Loaded": thing(["digest", "warnings"], digest=text(), warnings=listing(text())),
}


def _shown(summary: str, schema: str, *parameters: Schema, errors: tuple[int, ...] = _GUARDED) -> Operation:
    return Operation(summary, {200: Content({JSON: ref(schema)})}, errors, list(parameters))


_OPERATIONS: Mapping[tuple[str, str], Operation] = {
    ("GET", "/healthz"): Operation("Whether the process serves.", {200: Content({JSON: ref("Ready")})}, (), key=False),
    ("GET", "/readyz"): _shown("Whether it can take requests.", "Ready"),
    ("GET", "/metrics"): Operation("Metrics, for Prometheus.", {200: Content({"text/plain": text()})}, _GUARDED),
    ("GET", PATH): Operation("This description.", {200: Content({JSON: thing(["openapi"])})}, _GUARDED),
    ("GET", "/admin/spend"): _shown(
        "What was spent, as `image-gateway spend` reports it.",
        "Spend",
        query("by", text(examples=["project,route"]), "What rows are told apart by."),
        query("window", text(enum=[str(window) for window in Window]), "The calendar window of now."),
        query("since", text(), "In place of the window."),
        query("until", text(), "In place of the window."),
        query("project", text(), "Of one project alone."),
        query("shadow", text(enum=["true", "false"]), "Shadow requests too."),
        query("experiment", text(), "Compares the arms of an experiment."),
    ),
    ("GET", "/admin/budgets"): _shown("Where each budget stands.", "Budgets"),
    ("GET", "/admin/routes"): _shown("How each route is doing, and what its limits leave.", "Routes"),
    ("GET", "/admin/callbacks"): _shown(
        "Callbacks that nobody took.",
        "Callbacks",
        query("project", text(), "Of one project alone."),
        query("limit", whole(1, 200), "How many at most."),
    ),
    ("POST", "/admin/callbacks/{id}/retry"): _shown("Send one again.", "Retried", errors=(*_GUARDED, 404)),
    ("GET", "/admin/keys"): _shown("Every key ever made, newest first; not the keys themselves.", "Keys"),
    ("POST", "/admin/keys"): Operation(
        "Make a key, and show it this once.",
        {200: Content({JSON: ref("NewKey")})},
        (*_GUARDED, 413),
        body=Content({JSON: ref("KeyWish")}),
    ),
    ("POST", "/admin/keys/{id}/rotate"): Operation(
        "Make a key in place of one, and show it this once.",
        {200: Content({JSON: ref("NewKey")})},
        (*_GUARDED, 404, 413),
        body=Content({JSON: ref("Rotation")}, required=False),
    ),
    ("POST", "/admin/keys/{id}/revoke"): _shown("End a key at once.", "Key", errors=(*_GUARDED, 404)),
    ("POST", "/admin/reload"): _shown("Read the policy now.", "Loaded"),
    ("POST", "/admin/explain"): Operation(
        "What would become of a request.",
        {200: Content({JSON: ref("Decision")})},
        (*_GUARDED, 413),
        body=Content({JSON: ref("Question")}),
    ),
}


def operation_of(method: str, path: str) -> Operation | None:
    """Return what a path does, None for the console's own; LookupError if nobody described it."""
    if path == "/" or path.startswith(CONSOLE):  # the root leads to it
        return None
    if (method, path) not in _OPERATIONS:
        raise LookupError(f"{method} {path} is not described")
    return _OPERATIONS[method, path]


def parameters_of(method: str, path: str) -> tuple[str, ...]:
    """Return the names of the parameters that a query of a path may have; LookupError if nobody described it."""
    operation = operation_of(method, path)
    return () if operation is None else tuple(str(each["name"]) for each in operation.parameters)


ADMIN = Plane(
    title="Image Gateway, admin plane",
    description="Metrics and administration, on a port of its own. With a token each path but `/healthz` asks for it.",
    security={"bearer": {"type": "http", "scheme": "bearer", "description": "The admin token."}},
    schemas=_SCHEMAS,
    describe=operation_of,
)
