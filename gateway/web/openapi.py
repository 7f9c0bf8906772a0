"""OpenAPI: the description of a plane, made of its own table of paths, its typed fields and its errors.

OpenAPI 3.1 (https://spec.openapis.org/oas/v3.1.1). A path that nobody described makes the description fail, so that
none is forgotten.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from typing import Any

from starlette.routing import Route

from gateway.domain import errors as domain_errors
from gateway.domain.errors import ClientGone, GatewayError
from gateway.web import errors as web_errors
from gateway.web.context import RequestContext

PATH = "/openapi.json"
OPENAPI = "3.1.1"
JSON, FORM, EVENTS = "application/json", "multipart/form-data", "text/event-stream"
_PLACEHOLDER = re.compile(r"\{([a-z_]+)(?::path)?\}")

Schema = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Content:
    """What a body holds, by media type; `required` is of requests."""

    types: Mapping[str, Schema]
    description: str = ""
    required: bool = True

    def as_json(self) -> dict[str, Any]:
        """Return the `content` member."""
        return {name: {"schema": schema} for name, schema in self.types.items()}


@dataclass(frozen=True, slots=True)
class Operation:
    """What a method of a path does; `errors` are further statuses of its answers, `key` tells whether it needs one."""

    summary: str
    answers: Mapping[int, Content]
    errors: Sequence[int]
    parameters: Sequence[Schema] = ()
    body: Content | None = None
    key: bool = True
    headers: Mapping[str, str] = field(default_factory=dict)
    """Of its answers below 400: name and meaning."""


@dataclass(frozen=True, slots=True)
class Plane:
    """What a description begins with, and what of a path is described: by method, None for one that is an alias."""

    title: str
    description: str
    security: Mapping[str, Schema]
    schemas: Mapping[str, Schema]
    describe: Callable[[str, str], Operation | None]


def text(**more: Any) -> Schema:
    """Return the schema of a string."""
    return {"type": "string", **more}


def whole(low: int | None = None, high: int | None = None, **more: Any) -> Schema:
    """Return the schema of a whole number."""
    bounds = {"minimum": low, "maximum": high}
    return {"type": "integer", **{name: bound for name, bound in bounds.items() if bound is not None}, **more}


def thing(required: Sequence[str] = (), **properties: Schema) -> Schema:
    """Return the schema of an object, of which more may be known than is said here."""
    return {"type": "object", "properties": properties, **({"required": list(required)} if required else {})}


def listing(items: Schema, **more: Any) -> Schema:
    """Return the schema of an array."""
    return {"type": "array", "items": items, **more}


def ref(name: str) -> Schema:
    """Return a reference to a schema of the plane."""
    return {"$ref": f"#/components/schemas/{name}"}


def query(name: str, schema: Schema, description: str = "") -> Schema:
    """Return a parameter of the query."""
    return {"name": name, "in": "query", "required": False, "schema": schema, "description": description}


def header(name: str, schema: Schema, description: str = "") -> Schema:
    """Return a parameter that is a header."""
    return {"name": name, "in": "header", "required": False, "schema": schema, "description": description}


ERROR = thing(
    ["error"],
    error=thing(
        ["message", "type", "param", "code"],
        message=text(),
        type={"type": ["string", "null"]},
        param={"type": ["string", "null"]},
        code={"type": ["string", "null"]},
    ),
)
"""The one shape of every error; a provider's own refusal may say null where the gateway never does."""

_ALWAYS = {"x-request-id": "The request's own id.", "cache-control": "How long the answer may be kept."}
_OF_ERRORS: Mapping[int, Mapping[str, str]] = {
    401: {"www-authenticate": "`Bearer`."},
    405: {"allow": "The methods that there are."},
    429: {"retry-after": "Seconds.", "retry-after-ms": "Milliseconds."},
    503: {"retry-after": "Seconds.", "retry-after-ms": "Milliseconds."},
}
_WHERE = (domain_errors.__name__, web_errors.__name__)
"""Modules whose errors are told of: what others add are refinements of them."""
_OTHERS = {402: "Money is short.", 504: "No answer in time."}


def describe(plane: Plane, routes: Iterable[Route]) -> dict[str, Any]:
    """Return the description of a plane; LookupError for a path or method that is not described."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        for method in sorted((route.methods or set()) - {"HEAD"}):
            operation = plane.describe(method, route.path)
            if operation is not None:
                path = _PLACEHOLDER.sub(r"{\1}", route.path)
                paths.setdefault(path, {})[method.lower()] = _operation(method, path, operation)
    used = sorted({status for statuses in _statuses(paths) for status in statuses})
    return {
        "openapi": OPENAPI,
        "info": {"title": plane.title, "version": version("image-gateway"), "description": plane.description},
        "paths": dict(sorted(paths.items())),
        "components": {
            "securitySchemes": plane.security,
            "schemas": {"Error": ERROR, **plane.schemas},
            "responses": {f"Error{status}": _error(status) for status in used},
        },
    }


def endpoint(plane: Plane, routes: Callable[[], Iterable[Route]]) -> Callable[[RequestContext], Any]:
    """Return the handler that answers a plane's description, which is made when it is first asked for."""

    @cache
    def made() -> bytes:
        return encoded(describe(plane, routes()))

    async def answer(context: RequestContext) -> None:
        await context.answer(200, made(), JSON)

    return answer


def encoded(description: Mapping[str, Any]) -> bytes:
    """Return a description as it is served and kept in files."""
    return json.dumps(description, indent=1, ensure_ascii=False).encode() + b"\n"


def described_by_classes() -> dict[int, list[str]]:
    """Return what each status of an error means: the first lines of the classes that have it."""
    found: dict[int, list[str]] = {}
    classes: list[type[GatewayError]] = [GatewayError]
    for each in classes:
        classes += [sub for sub in each.__subclasses__() if sub.__module__ in _WHERE]
        if each not in (GatewayError, ClientGone):
            line = (each.__doc__ or "").strip().partition("\n")[0]
            if line not in found.setdefault(each.status, []):
                found[each.status].append(line)
    return found


def _operation(method: str, path: str, operation: Operation) -> dict[str, Any]:
    errors = sorted({*operation.errors, 400, 408, 414, 431, 500, 503})
    headers = {**_ALWAYS, **operation.headers}
    told: dict[str, Any] = {
        "operationId": _name(method, path),
        "summary": operation.summary,
        "parameters": [*_placeholders(path), *operation.parameters],
        "responses": {
            **{str(status): _answer(content, headers) for status, content in operation.answers.items()},
            **{str(status): {"$ref": f"#/components/responses/Error{status}"} for status in errors},
        },
    }
    if operation.body is not None:
        told["requestBody"] = {"required": operation.body.required, "content": operation.body.as_json()}
    told["security"] = [{"bearer": []}, {"api-key": []}] if operation.key and not path.startswith("/admin") else []
    if operation.key and path.startswith(("/admin", "/metrics")):
        told["security"] = [{"bearer": []}, {}]
    return told


def _name(method: str, path: str) -> str:
    words = [word.strip("{}") for word in path.removeprefix("/v1").split("/") if word]
    return "_".join([method.lower(), *(re.sub(r"[^a-z]+", "_", word.lower()) for word in words)])


def _placeholders(path: str) -> list[Schema]:
    names = _PLACEHOLDER.findall(path)
    return [{"name": name, "in": "path", "required": True, "schema": text(minLength=1)} for name in names]


def _answer(content: Content, headers: Mapping[str, str]) -> dict[str, Any]:
    told: dict[str, Any] = {"description": content.description or "Done.", "headers": _headers(headers)}
    return {**told, "content": content.as_json()} if content.types else told


def _error(status: int) -> dict[str, Any]:
    lines = described_by_classes().get(status) or [_OTHERS.get(status, "Refused by the provider.")]
    headers = {"x-request-id": _ALWAYS["x-request-id"], **_OF_ERRORS.get(status, {})}
    return {
        "description": " Or: ".join(lines),
        "headers": _headers(headers),
        "content": {JSON: {"schema": ref("Error")}},
    }


def _headers(named: Mapping[str, str]) -> dict[str, Schema]:
    return {name: {"description": said, "schema": text()} for name, said in named.items()}


def _statuses(paths: Mapping[str, Mapping[str, Any]]) -> Iterable[list[int]]:
    for methods in paths.values():
        for operation in methods.values():
            yield [int(status) for status, answer in operation["responses"].items() if "$ref" in answer]
