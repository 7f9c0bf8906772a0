"""What the data plane's paths take and answer, for its description."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.steps.accept import MAX_TAGS
from gateway.steps.classify import MAX_N, MAX_PARTIAL_IMAGES, MAX_PROMPT_CHARS
from gateway.web.form_fields import SINGLE
from gateway.web.openapi import (
    EVENTS,
    FORM,
    JSON,
    PATH,
    Content,
    Operation,
    Plane,
    Schema,
    header,
    listing,
    query,
    ref,
    text,
    thing,
    whole,
)

_TYPED: Mapping[str, Schema] = {
    "prompt": text(minLength=1, maxLength=MAX_PROMPT_CHARS),
    "n": whole(1, MAX_N),
    "stream": {"type": "boolean"},
    "partial_images": whole(0, MAX_PARTIAL_IMAGES),
    "resolution": text(enum=["512", "1K", "2K", "4K", "auto"]),
    "async": {"type": "boolean"},
    "callback_url": text(format="uri", maxLength=2048),
    "output_compression": whole(0, 100),
    "size": text(examples=["1024x1024", "16:9", "auto"]),
    "complexity": {},
    "frame_count": {},
    "frame_duration_ms": {},
    "style": {},
}
"""Fields that are read here; of the others only that they are text."""
_STREAM: Schema = {"description": "Server-sent events; the `data` of each is a JSON object, its `type` as in `event`."}
"""Without a type: some readers of OpenAPI 3.1 take it for the whole text, some for each event."""
_IMAGE_REF = thing(image_url=text(), file_id=text())
_FIELDS: Mapping[str, Schema] = {name: _TYPED.get(name, text()) for name in sorted(SINGLE)}
_NULLABLE = {name: {"anyOf": [schema, {"type": "null"}]} if schema else {} for name, schema in _FIELDS.items()}

_IMAGES = thing(
    ["created", "data"],
    created=whole(),
    data=listing(thing(b64_json=text(), url=text(), revised_prompt={"type": ["string", "null"]})),
    usage={"type": ["object", "null"]},
)
_MODEL = thing(["id", "object", "created", "owned_by"], id=text(), object=text(), created=whole(), owned_by=text())
_STATUS = text(enum=["pending", "processing", "completed", "failed", "cancelled"])
_TASK = thing(
    ["id", "object", "status", "progress", "created", "request_id"],
    id=text(),
    object=text(),
    status=_STATUS,
    progress=whole(0, 100),
    created=whole(),
    request_id=text(),
    cost=thing(["usd"], usd=text()),
)
_ASSET = thing(
    ["id", "object", "bytes", "expires_at", "url"],
    id=text(),
    object=text(),
    bytes=whole(),
    expires_at=whole(),
    url=text(),
)
_READY = thing(["status"], status=text())


def _page(items: Schema) -> Schema:
    return thing(["object", "data", "has_more"], object=text(), data=listing(items), has_more={"type": "boolean"})


_SCHEMAS: Mapping[str, Schema] = {
    "ImageRequest": {**thing(["prompt"], **_NULLABLE), "description": "Fields that are not named here are passed on."},
    "EditRequest": thing(
        ["prompt"], **_NULLABLE, images=listing(_IMAGE_REF), image_urls=listing(text()), mask=_IMAGE_REF
    ),
    "EditForm": thing(["prompt", "image"], **_FIELDS, image=listing(text(format="binary")), mask=text(format="binary")),
    "Images": _IMAGES,
    "Decision": thing(["object", "candidates"], object=text(const="gateway.decision"), candidates=listing(thing())),
    "Task": _TASK,
    "TaskPage": _page(ref("Task")),
    "Asset": _ASSET,
    "AssetPage": _page(ref("Asset")),
    "Model": _MODEL,
    "ModelPage": thing(["object", "data"], object=text(), data=listing(ref("Model"))),
    "Request": thing(["id", "object", "project", "state", "attempts"], id=text(), object=text(), attempts=listing({})),
    "ResponseRequest": thing(
        ["model"], model=text(), input={}, tools=listing(thing(["type"], type=text())), stream={"type": "boolean"}
    ),
    "Response": thing(id=text(), object=text()),
    "Ready": _READY,
}

WISHES: Mapping[str, tuple[Schema, str]] = {
    "X-Gateway-Job-Type": (text(), "What the images are for."),
    "X-Gateway-Lane": (text(), "Opens routes of a lane that the project lists."),
    "X-Gateway-Max-Cost": (text(pattern=r"^[0-9]{1,6}(\.[0-9]{1,9})?$"), "USD."),
    "X-Gateway-Dry-Run": (text(enum=["true", "false"]), "Answers the decision in place of images."),
    "X-Gateway-Degrade": (text(enum=["allow", "never"]), "Whether policy may change what is made to save money."),
    "X-Gateway-Tags": (text(examples=["team=web"]), f"Up to {MAX_TAGS} pairs."),
    "X-Gateway-Cache": (text(enum=["use", "skip"]), "Whether an earlier request's images may be the answer."),
    "X-Gateway-Max-Wait": (text(pattern="^[0-9]{1,4}[smh]$"), "How long a task may wait before it begins."),
}
"""What a client may ask of the gateway itself."""
_ASKED = [
    *(header(name, schema, said) for name, (schema, said) in WISHES.items()),
    header("Idempotency-Key", text(minLength=1, maxLength=255), "The client's own name for the request."),
    header("Prefer", text(examples=["respond-async"]), "`respond-async` makes a task of it."),
]
_TOLD = {
    "X-Gateway-Route": "The route that was used.",
    "X-Gateway-Job-Type": "What the images were for.",
    "X-Gateway-Attempts": "Calls to providers so far.",
    "X-Gateway-Cost-Estimate": "USD: the most that it may cost.",
    "X-Gateway-Cost": "USD: what it cost, where that is known before the first byte.",
    "X-Gateway-Budget-Remaining": "USD left on the tightest budget.",
}
_MONEY = (401, 402, 403, 404, 409, 413, 415, 422, 429, 502, 504)
_LOOK = (401, 403, 404, 429)
_IMAGE_ANSWERS = {
    200: Content(
        {JSON: {"anyOf": [ref("Images"), ref("Decision")]}, EVENTS: _STREAM},
        "Images, or the decision of a dry run, or events where `stream` asks for them.",
    ),
    202: Content({JSON: ref("Task")}, "A task, which is done later."),
}
_PAGES = [
    query("limit", whole(1, 100), "How many at most."),
    query("after", text(minLength=1), "The id after which the page begins."),
]


def _images(summary: str, types: Mapping[str, Schema]) -> Operation:
    version = query("api-version", text(), "Taken and passed over.")
    return Operation(summary, _IMAGE_ANSWERS, _MONEY, [*_ASKED, version], Content(types), headers=_TOLD)


_GENERATE = _images("Make images from a prompt.", {JSON: ref("ImageRequest")})
_EDIT = _images("Make images from images.", {JSON: ref("EditRequest"), FORM: ref("EditForm")})


def _shown(summary: str, schema: str, *parameters: Schema, status: int = 200, errors: tuple[int, ...] = _LOOK) -> Any:
    return Operation(summary, {status: Content({JSON: ref(schema)})}, errors, list(parameters))


_IMAGE = Operation(
    "A stored image, whole or in part.",
    {
        200: Content({"image/*": text(format="binary")}, "The image."),
        206: Content({"image/*": text(format="binary")}, "The part that was asked for."),
        304: Content({}, "The client has it."),
        416: Content({}, "No part lies there."),
    },
    _LOOK,
    [
        header("Range", text()),
        header("If-None-Match", text()),
        header("If-Range", text()),
        query("expires", text(), "Of a signed link."),
        query("signature", text(), "Of a signed link."),
    ],
)
_DEPLOYMENT = "/deployments/{name}"
"""Behind it stand the paths of clients that name the model in the path."""
_PASSED = (400, 401, 403, 404, 409, 422, 429, 502, 504)
_OPERATIONS: Mapping[tuple[str, str], Operation] = {
    ("POST", "/images/generations"): _GENERATE,
    ("POST", "/images/edits"): _EDIT,
    ("POST", "/images/variations"): Operation("Retired by its vendor.", {}, (401, 403, 410, 429)),
    ("GET", "/models"): _shown("What this key may use.", "ModelPage"),
    ("GET", "/models/{id:path}"): _shown("One model, or job type.", "Model"),
    ("GET", "/requests/{id}"): _shown("What a request cost, and why.", "Request"),
    ("GET", "/assets"): _shown("The project's stored images.", "AssetPage", *_PAGES),
    ("GET", "/assets/{id}"): _IMAGE,
    ("DELETE", "/assets/{id}"): _shown("Delete a stored image.", "Response"),
    ("GET", "/tasks"): _shown(
        "The project's tasks.", "TaskPage", *_PAGES, query("status", _TASK["properties"]["status"])
    ),
    ("GET", "/tasks/{id}"): _shown("A task as it is now.", "Task"),
    ("POST", "/tasks/{id}/cancel"): _shown("Cancel a task.", "Task", errors=(*_LOOK, 409)),
    ("POST", "/responses"): Operation(
        "A conversation with the image tool.",
        {200: Content({JSON: ref("Response"), EVENTS: _STREAM})},
        _MONEY,
        _ASKED,
        Content({JSON: ref("ResponseRequest")}),
        headers=_TOLD,
    ),
    ("POST", "/responses/compact"): Operation("Not served here.", {}, (404,), key=False),
    ("POST", "/responses/input_tokens"): Operation("Not served here.", {}, (404,), key=False),
    ("GET", "/responses/{id}"): _shown("A response as it is now.", "Response", errors=_PASSED),
    ("DELETE", "/responses/{id}"): _shown("Delete a response.", "Response", errors=_PASSED),
    ("POST", "/responses/{id}/cancel"): _shown("Cancel a response.", "Response", errors=_PASSED),
    ("GET", "/responses/{id}/input_items"): _shown("What a response was made of.", "Response", errors=_PASSED),
}
_ELSEWHERE: Mapping[tuple[str, str], Operation] = {
    ("GET", "/healthz"): Operation("Whether the process serves.", {200: Content({JSON: ref("Ready")})}, (), key=False),
    ("GET", "/readyz"): Operation("Whether it can take requests.", {200: Content({JSON: ref("Ready")})}, (), key=False),
    ("GET", PATH): Operation("This description.", {200: Content({JSON: thing(["openapi"])})}, (), key=False),
    ("POST", "/v1/hints/{token}"): Operation(
        "Where providers call back; the token is the key.", {204: Content({})}, (404, 413), key=False
    ),
}


def operation_of(method: str, path: str) -> Operation | None:
    """Return what a path does, None if it is another name of one below `/v1`; LookupError if nobody described it."""
    if (method, path) in _ELSEWHERE:
        return _ELSEWHERE[method, path]
    for (verb, below), operation in _OPERATIONS.items():
        if verb == method and path.endswith(below):
            prefix = path.removesuffix(below)
            return operation if prefix == "/v1" or prefix.endswith(_DEPLOYMENT) else None
    raise LookupError(f"{method} {path} is not described")


DATA = Plane(
    title="Image Gateway",
    description=(
        "The data plane. Every path below `/v1` also answers without it, and below the prefix of the deployment paths; "
        "other paths below `/v1` go through to a provider where policy says so. Errors have one shape."
    ),
    security={
        "bearer": {"type": "http", "scheme": "bearer", "description": "A key of a project."},
        "api-key": {"type": "apiKey", "in": "header", "name": "api-key"},
    },
    schemas=_SCHEMAS,
    describe=operation_of,
)
