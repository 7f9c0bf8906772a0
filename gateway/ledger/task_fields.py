"""Tasks as they lie in the store: orders as JSON, records as hashes, tokens of those who have one."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any

from gateway.domain.task import TaskOrder, TaskRecord, TaskStatus
from gateway.ledger.wire import to_json

MOST_ORDER = 64 * 1024
MOST_RESULT = 1024 * 1024
MOST_ERROR = 16 * 1024
MOST_SUBMITTED = 16 * 1024
MOST_BODY = 1024 * 1024
"""Bytes of each as it lies in the store."""

_ORDER = tuple(each.name for each in fields(TaskOrder))
_SUBMITTED = "sub:"
_NOTHING: Mapping[Any, Any] = {}
_OF_MANY = frozenset({"project", "key_id", "operation", "path_model", "model", "content_type", "base", "callback_url"})


@dataclass(frozen=True, slots=True)
class Holding:
    """Who has a task: what a token says, `worker/deliveries/entry/project`."""

    worker: str
    deliveries: str
    entry: str
    project: str

    def __str__(self) -> str:
        return f"{self.worker}/{self.deliveries}/{self.entry}/{self.project}"

    @classmethod
    def parse(cls, token: str) -> Holding:
        """Read a token; ValueError if it is none."""
        try:
            return cls(*token.split("/", 3))
        except TypeError as error:
            raise ValueError(f"no token of a task: {token!r}") from error


def bounded(text: str, most: int, what: str) -> str:
    """Return it; ValueError if it is larger than so many bytes."""
    if len(text) > most or len(text.encode()) > most:
        raise ValueError(f"{what} is larger than {most} bytes")
    return text


def order_json(order: TaskOrder) -> str:
    """Return an order as JSON; ValueError if it is too large."""
    given = {name: getattr(order, name) for name in _ORDER} | {"headers": dict(order.headers)}
    return bounded(to_json(given), MOST_ORDER, "a task's order")


def submitted_field(number: int) -> str:
    """Return the field for what a provider took on for a call."""
    return f"{_SUBMITTED}{number}"


def pairs(flat: Sequence[str]) -> dict[str, str]:
    """Return a hash as a script tells it."""
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _shared(name: str, value: Any) -> Any:
    """Return a value of an order; what thousands of them say alike is in memory once."""
    if name == "headers":
        return value or _NOTHING
    if name == "most":
        return None if value is None else _one(tuple(value))
    return sys.intern(value) if name in _OF_MANY and isinstance(value, str) else value


@lru_cache(maxsize=1024)
def _one(amounts: tuple[int, ...]) -> tuple[int, ...]:
    """Return the same tuple for equal ones: thousands of tasks have the same."""
    return amounts


def read_record(known: Mapping[str, str]) -> TaskRecord:
    """Read a task's hash; what another version wrote into its order and this one does not know is left out."""
    order: Mapping[str, Any] = json.loads(known["order"])
    submitted = {
        int(name.removeprefix(_SUBMITTED)): json.loads(value)
        for name, value in known.items()
        if name.startswith(_SUBMITTED)
    }
    return TaskRecord(
        order=TaskOrder(**{name: _shared(name, value) for name, value in order.items() if name in _ORDER}),
        status=TaskStatus(known["status"]),
        progress=int(known["progress"]),
        result=json.loads(known["result"]) if "result" in known else None,
        error=json.loads(known["error"]) if "error" in known else None,
        attempt=int(known["attempt"]) if "attempt" in known else None,
        route=known.get("route"),
        submitted=dict(sorted(submitted.items())) or _NOTHING,
        cancel_asked="cancel" in known,
        cost=int(known["cost"]) if "cost" in known else None,
    )
