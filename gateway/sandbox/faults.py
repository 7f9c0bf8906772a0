"""Scripted faults: what a client asks a simulated provider to do wrong, and for how many requests."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from gateway.sandbox.fault_catalog import FAULTS, WORK_STAGES, FaultSpec, Feature, Stage

_FIELDS = frozenset({"provider", "match", "fault", "times"})
_SENT: Mapping[str, type] = {"quality": str, "size": str, "n": int}
"""Conditions on a field by that very name, as it was sent."""
_MATCH: Mapping[str, type] = {
    "model": str,
    "prompt": str,
    "prompt_contains": str,
    "operation": str,
    "stream": bool,
    **_SENT,
}
_PAGES = frozenset({"html", "garbage"})
"""What stands in the place of a whole answer."""
_UNREAD = _MATCH.keys() - {"operation"}


class FaultError(Exception):
    """A fault that cannot be scripted; the message says why and what exists."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What a fault is matched against: one valid request; `work` if it begins work that is answered later.

    Its provider has no way to show the faults named in `unknown`: they pass it by. `fields` are as they were sent.
    """

    operation: str
    model: str
    prompt: str
    stream: bool
    work: bool = False
    unknown: Collection[str] = frozenset()
    fields: Mapping[str, object] = field(default_factory=dict)

    def says(self, name: str, wanted: object) -> bool:
        """Say whether a field was sent with that value; forms send numbers as texts."""
        sent = self.fields.get(name)
        return sent is not None and str(sent) == str(wanted)


@dataclass(slots=True)
class Fault:
    """A scripted fault. `remaining` is how many requests it will still hit, None for all of them."""

    id: str
    name: str
    provider: str | None
    match: Mapping[str, Any]
    remaining: int | None
    parameters: Mapping[str, Any]
    spec: FaultSpec = field(repr=False)
    note: str | None = None
    """What should be known of it: that its provider cannot show it."""
    hits: int = 0

    @property
    def billed(self) -> bool:
        """Whether the provider charges for a request that this fault hits."""
        return bool(self.parameters.get("billed", self.spec.billed))

    def hit(self) -> Fault:
        """Count one request as hit and return the fault."""
        self.hits += 1
        if self.remaining is not None:
            self.remaining -= 1
        return self

    def meets(self, subject: Subject) -> bool:
        """Say whether every condition of `match` holds, and the fault makes sense for the request."""
        if (self.spec.stream_only and not subject.stream) or (self.spec.work_only and not subject.work):
            return False
        if self.name in subject.unknown:
            return False
        conditions: Mapping[str, Callable[[Any], bool]] = {
            "model": lambda wanted: wanted == subject.model,
            "operation": lambda wanted: wanted == subject.operation,
            "stream": lambda wanted: wanted is subject.stream,
            "prompt": lambda wanted: wanted == subject.prompt,
            "prompt_contains": lambda wanted: wanted in subject.prompt,
            **{name: partial(subject.says, name) for name in _SENT},
        }
        return all(conditions[name](wanted) for name, wanted in self.match.items())

    def strikes(self, name: str) -> bool:
        """Say whether one of many is among the `percent` that are struck, the same one always."""
        return hashlib.sha256(name.encode()).digest()[0] * 100 < int(self.parameters["percent"]) * 256

    def as_json(self) -> dict[str, object]:
        """Return what was scripted, what is left of it, and how often it struck."""
        return {
            "id": self.id,
            "provider": self.provider,
            "match": dict(self.match),
            "fault": self.name,
            "times": self.remaining,
            "hits": self.hits,
            **self.parameters,
            **({"note": self.note} if self.note else {}),
        }


class Faults:
    """The faults in force, oldest first; a request meets at most one: the first that matches."""

    def __init__(self, providers: Mapping[str, Collection[Feature]]) -> None:
        self._providers = providers
        self._faults: dict[str, Fault] = {}
        self._ids = itertools.count(1)

    def add(self, wanted: object) -> Fault:
        """Script a fault from its JSON form; FaultError if anything in it is unknown or malformed."""
        fault = _parse(wanted, self._providers, f"fault_{next(self._ids)}")
        self._faults[fault.id] = fault
        return fault

    def take_on_arrival(self, provider: str, operation: str) -> Fault | None:
        """Return the fault that strikes before the body is read, if one does, and count it."""
        for fault in self._pending(provider):
            if fault.spec.stage is Stage.ARRIVAL and fault.match.get("operation", operation) == operation:
                return fault.hit()
        return None

    def take(self, provider: str, subject: Subject) -> Fault | None:
        """Return the fault that strikes this request, if one does, and count it."""
        for fault in self._pending(provider):
            if fault.spec.stage not in {Stage.ARRIVAL, Stage.BATCH, *WORK_STAGES} and fault.meets(subject):
                return fault.hit()
        return None

    def take_for_batch(self, provider: str) -> Fault | None:
        """Return the fault that strikes a batch, if one does, and count it."""
        fault = next((each for each in self._pending(provider) if each.spec.stage is Stage.BATCH), None)
        return None if fault is None else fault.hit()

    def take_content(self, provider: str, subject: Subject) -> Fault | None:
        """Return the fault that spoils what an answer says, for one that is not sent by itself, and count it."""
        for fault in self._pending(provider):
            if fault.spec.stage is Stage.CONTENT and fault.name not in _PAGES and fault.meets(subject):
                return fault.hit()
        return None

    def take_for_work(self, provider: str, subject: Subject) -> dict[Stage, Fault]:
        """Return the faults that strike work which a request begins, at most one a stage, and count them."""
        struck: dict[Stage, Fault] = {}
        for fault in self._pending(provider):
            stage = fault.spec.stage
            if stage in WORK_STAGES and stage not in struck and fault.meets(subject):
                struck[stage] = fault.hit()
        return struck

    def remove(self, fault_id: str) -> bool:
        """Take back one fault; False if there is none by that id."""
        return self._faults.pop(fault_id, None) is not None

    def clear(self) -> None:
        """Take back all faults."""
        self._faults.clear()

    def as_json(self) -> dict[str, object]:
        """Return every fault since the last reset, the used-up ones (`times` is 0) included."""
        return {"faults": [fault.as_json() for fault in self._faults.values()]}

    def _pending(self, provider: str) -> list[Fault]:
        return [f for f in self._faults.values() if f.provider in {None, provider} and f.remaining != 0]


def _parse(wanted: object, providers: Mapping[str, Collection[Feature]], fault_id: str) -> Fault:
    if not isinstance(wanted, dict):
        raise FaultError('a fault is a JSON object such as {"fault": "timeout", "times": 1}')
    name = wanted.get("fault")
    spec = FAULTS.get(name) if isinstance(name, str) else None
    if spec is None:
        raise FaultError(f"unknown fault {name!r}; there are: {', '.join(FAULTS)}")
    provider = wanted.get("provider")
    if provider is not None and provider not in providers:
        raise FaultError(f"unknown provider {provider!r}; there are: {', '.join(sorted(providers))}")
    lacks = spec.needs if provider is not None and spec.needs not in {None, *providers[provider]} else None
    return Fault(
        id=fault_id,
        name=str(name),
        provider=provider,
        match=_match(wanted.get("match", {}), spec),
        remaining=_times(wanted.get("times", 1)),
        parameters=_parameters({k: v for k, v in wanted.items() if k not in _FIELDS}, str(name), spec),
        spec=spec,
        note=f"it strikes nothing: {provider} has no {lacks}" if lacks else None,
    )


def _times(times: object) -> int | None:
    if times is None:
        return None
    if isinstance(times, bool) or not isinstance(times, int) or times < 1:
        raise FaultError(f"times is a whole number from 1 on, or null for ever, not {times!r}")
    return times


def _match(match: object, spec: FaultSpec) -> Mapping[str, Any]:
    if not isinstance(match, dict):
        raise FaultError(f"match is an object with any of: {', '.join(_MATCH)}")
    for key, value in match.items():
        if key not in _MATCH:
            raise FaultError(f"unknown condition {key!r} in match; there are: {', '.join(_MATCH)}")
        if type(value) is not _MATCH[key]:  # `true` is no number
            raise FaultError(f"match.{key} is a {_MATCH[key].__name__}, not {value!r}")
        if spec.stage is Stage.ARRIVAL and key in _UNREAD:
            raise FaultError(f"match.{key} cannot be known before the body is read; match by operation")
    return match


def _parameters(given: Mapping[str, Any], name: str, spec: FaultSpec) -> dict[str, Any]:
    for key, value in given.items():
        parameter = spec.parameters.get(key)
        if parameter is None:
            known = ", ".join(spec.parameters) or "none"
            raise FaultError(f"unknown parameter {key!r} of fault {name!r}; its parameters: {known}")
        if not parameter.kind.accepts(value):
            raise FaultError(f"{key} of fault {name!r} is {parameter.kind.value}, not {value!r}")
    return {key: given.get(key, parameter.default) for key, parameter in spec.parameters.items()}
