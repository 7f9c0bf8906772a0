"""A campaign: requests made of a plane's own description, sent over real sockets, their answers held against it."""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, Verbosity, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

CHECKS = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
DOCUMENTED_FAULTS = {502: {"upstream_error"}, 503: {"storage_unavailable", "task_not_ready"}, 504: {"upstream_timeout"}}
"""Above 499, what a provider or a moment may bring about; anything else is a fault of the gateway."""
_ELSEWHERE = ("callback_url",)
"""Fields whose URLs the gateway itself would call, wherever chance has them lead."""


@dataclass
class Campaign:
    """What was sent to a plane at `url`, by status; `fields` and `ids` are put in where chance would never hit."""

    url: str
    description: Mapping[str, Any]
    headers: Mapping[str, str]
    ids: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    statuses: Counter[int] = field(default_factory=Counter)
    operations: Counter[str] = field(default_factory=Counter)

    def run(self, cases: int, seed: int) -> None:
        """Send so many requests, half of them such as the description allows; one that is answered wrong fails."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the generator: what it cannot make of a schema it makes otherwise
            self._run(cases, seed)

    def _run(self, cases: int, seed: int) -> None:
        schema = schemathesis.openapi.from_dict(dict(self.description))
        modes = (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE)
        strategies = []
        for found in schema.get_all_operations():
            assert isinstance(found, Ok)
            operation = found.ok()
            if operation.path not in self.skip:
                strategies += [
                    operation.as_strategy(generation_mode=mode) for mode in modes[: 1 + _has_input(operation)]
                ]
        every = st.one_of(*strategies)
        session = requests.Session()

        @seeded(seed)
        @settings(
            max_examples=cases,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            verbosity=Verbosity.quiet,
            suppress_health_check=list(HealthCheck),
        )
        @given(case=every, plain=st.booleans(), number=st.integers(0, 1000))
        def send(case: Any, plain: bool, number: int) -> None:
            self._send(session, case, plain=plain, number=number)

        send()

    def _send(self, session: requests.Session, case: Any, *, plain: bool, number: int) -> None:
        if isinstance(case.body, dict):
            body = {name: value for name, value in case.body.items() if name not in _ELSEWHERE}
            wanted = {"prompt", "image", "images", "model", "project", "request"}
            case.body = {name: value for name, value in body.items() if name in wanted} if plain else body
        if plain:
            case.headers = {}
        if self.ids and "id" in case.path_parameters and number % 3 == 0:
            case.path_parameters["id"] = self.ids[number % len(self.ids)]
        answer = case.call(base_url=self.url, session=session, headers=dict(self.headers), timeout=60)
        self.statuses[answer.status_code] += 1
        self.operations[f"{case.method} {case.operation.path}"] += 1
        if answer.status_code >= 500:
            code = json.loads(answer.content)["error"]["code"]
            assert code in DOCUMENTED_FAULTS.get(answer.status_code, ()), answer.content
        if answer.status_code == 405:
            assert answer.headers["allow"]
        case.validate_response(answer, checks=CHECKS)


def _has_input(operation: Any) -> bool:
    return bool(operation.body) or bool(operation.query) or bool(operation.headers)
