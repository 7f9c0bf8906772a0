"""The descriptions of both planes are those of the code, and hold for what it does."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis

from gateway.domain.errors import GatewayError
from gateway.steps.accept import _WORDS
from gateway.web.form_fields import SINGLE
from gateway.web.openapi import described_by_classes
from gateway.web.openapi_data import WISHES
from tests.e2e.stack import fetch
from tests.security.conftest import TOKEN, Planes
from tests.security.description import DOCS, admin_routes, data_routes, descriptions

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")


@pytest.mark.parametrize("path", sorted(descriptions()), ids=lambda path: path.name)
def test_the_file_is_current(path: Path) -> None:
    """What lies in docs/ is what the code describes; `python -m tests.security.description` writes it anew."""
    assert path.read_bytes() == descriptions()[path]


@pytest.mark.parametrize("name", ["openapi-data.json", "openapi-admin.json"])
def test_it_is_openapi(name: str) -> None:
    """It keeps to the schema of OpenAPI 3.1, every reference leads somewhere, and no operation has another's id."""
    document = json.loads((DOCS / name).read_bytes())
    schemathesis.openapi.from_dict(document).validate()
    for reference in _references(document):
        place: Any = document
        for part in reference.removeprefix("#/").split("/"):
            place = place[part]
    ids = [operation["operationId"] for methods in document["paths"].values() for operation in methods.values()]
    assert len(ids) == len(set(ids))


def _references(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for name, inner in value.items():
            if name == "$ref":
                yield inner
            else:
                yield from _references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _references(inner)


def test_every_path_field_header_and_error_is_in_it() -> None:
    """None of the tables of the code has anything that its description lacks."""
    document = json.loads((DOCS / "openapi-data.json").read_bytes())
    below = {path for path in document["paths"] if path.startswith("/v1/")}
    for route in data_routes():
        path = route.path.replace(":path", "")
        assert path in document["paths"] or f"/v1{path.removeprefix('/openai').removeprefix('/v1')}" in below, path
    assert set(document["components"]["schemas"]["ImageRequest"]["properties"]) == SINGLE
    assert {name.lower().removeprefix("x-gateway-") for name in WISHES} == _WORDS
    statuses = described_by_classes()
    assert {402, 409, 431, 504} <= set(statuses)
    assert GatewayError.status not in statuses or statuses[500]
    admin = json.loads((DOCS / "openapi-admin.json").read_bytes())
    assert {route.path for route in admin_routes()} == set(admin["paths"])


def test_each_plane_serves_its_own(planes: Planes) -> None:
    """The data plane to anybody, since it tells nothing of policy; the admin plane to whoever has its token."""
    for port, headers, name in ((planes.port, {}, "data"), (planes.admin_port, planes.admin, "admin")):
        answer = fetch(f"http://127.0.0.1:{port}/openapi.json", headers=headers)
        assert answer.status == 200
        served, kept = json.loads(answer.body), json.loads((DOCS / f"openapi-{name}.json").read_bytes())
        assert served == kept
    assert fetch(f"http://127.0.0.1:{planes.admin_port}/openapi.json").status == 401
    assert TOKEN not in (DOCS / "openapi-admin.json").read_text()


def test_other_methods_are_refused_and_told_which_there_are(planes: Planes) -> None:
    """Each path of each plane answers 405 to every method that it does not have, and `allow` names those it has.

    A path may be two: one of its own, and one that an id could be.
    """
    every = ((planes.port, data_routes(), planes.client), (planes.admin_port, admin_routes(), planes.admin))
    for port, routes, headers in every:
        for route in routes:
            path = re.sub(r"\{[a-z:]+\}", "x", route.path)
            served = [set(each.methods or ()) for each in routes if each.path_regex.match(path)]
            for method in set(METHODS).difference(*served):
                answer = fetch(f"http://127.0.0.1:{port}{path}", method=method, headers=headers)
                assert answer.status == 405, (method, path)
                assert set(answer.headers["allow"].split(", ")) in served
