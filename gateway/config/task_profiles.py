"""Task profiles: what stands under `task` in a preset or provider whose kind is `task`."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from enum import StrEnum
from fractions import Fraction
from typing import Any, TypeVar
from urllib.parse import urlsplit

from gateway.config.documents import Kind, Node, Value
from gateway.config.durations import duration, patience, pause
from gateway.config.fields import Fields
from gateway.config.problems import Report, shown
from gateway.config.schema import TASK, TASK_CALLBACK, TASK_COST, TASK_ERROR, TASK_POLL, TASK_URLS
from gateway.config.values import Reader, described, header_name, matching, one_of, one_or_listed, text, whole
from gateway.domain import json_path
from gateway.domain.profile import Amount, Profile
from gateway.domain.task_profile import (
    CallbackProfile,
    Fault,
    PollTimes,
    TaskProfile,
    TaskState,
    UrlPurpose,
    Verification,
)

W = TypeVar("W", bound=StrEnum)

_HOST = re.compile(r"(\*\.)?[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*(:[0-9]{1,5})?", re.ASCII)
_EXACT = re.compile(r"[0-9]{1,12}(\.[0-9]{1,12})?(/[1-9][0-9]{0,12})?", re.ASCII)
_MOST_WORDS = 100


def read_task_profile(fields: Fields, base: Profile, report: Report) -> TaskProfile:
    """Read the map under `task`; what it leaves out is as `base` says. `fields` are those of the map around it.

    `base` has what every kind's profile has, read already; it may be a task profile, whose keys are overridden singly.
    """
    if isinstance(base, TaskProfile):
        before = base
    elif fields.node("task") is None:
        report.problem(fields.place, "kind task needs a preset, or a map task that says how work is followed")
        return _task_profile(fields, base)
    else:
        before = _task_profile(fields, base)
        if fields.lacks("generations"):
            report.problem(fields.place, "generations is missing: the path under which work is submitted")
    task = fields.within("task", TASK)
    if task is None:
        return before
    mistakes = len(report.problems)
    profile = dataclasses.replace(before, **_read(task, before, report))
    if len(report.problems) == mistakes:  # what was misread is not missing
        _check(task, profile, report)
    return profile


def _task_profile(fields: Fields, base: Profile) -> TaskProfile:
    """Return what was read already as the beginning of a task profile; paths are never those of another kind."""
    read = {field.name: getattr(base, field.name) for field in dataclasses.fields(base)}
    return TaskProfile(**{**read, "edits": None if fields.node("edits") is None else base.edits})


def _read(task: Fields, before: TaskProfile, report: Report) -> dict[str, Any]:
    error = task.within("error", TASK_ERROR)
    read: dict[str, Any] = {
        "id": task.read("id", one_or_listed(path)),
        "urls": _by_purpose(task, "urls", _template, before.urls),
        "told": _by_purpose(task, "told", path, before.told),
        "sister_hosts": task.read("sister_hosts", one_or_listed(_host)),
        "state": task.read("state", path),
        "states": _words(task, "states", TaskState, before.states, report),
        "progress": task.read("progress", path),
        "error_code": error and error.read("code", one_or_listed(path)),
        "error_message": error and error.read("message", one_or_listed(path)),
        "faults": _words(task, "faults", Fault, before.faults, report),
        "fault_words": _words(task, "fault_words", Fault, before.fault_words, report),
        "otherwise": _word(task, "otherwise", Fault),
        "images": task.read("images", one_or_listed(path)),
        "usage": task.read("usage", path),
        "seconds": task.read("seconds", path),
        "started": task.read("started", path),
        "submitted_cost": _amount(task, "submitted_cost"),
        "cancel_method": task.read("cancel_method", one_of(("POST", "PUT", "DELETE"))),
        "callback": _callback(task, before.callback),
        "poll": _poll(task, before.poll, report),
        "patience": task.read("patience", patience),
        "link_lifetime": task.read("link_lifetime", patience),
    }
    return {name: value for name, value in read.items() if value is not None}


def _check(fields: Fields, profile: TaskProfile, report: Report) -> None:
    """Report what the whole lacks, or what contradicts itself."""
    if UrlPurpose.STATUS not in {*profile.urls, *profile.told}:
        report.problem(fields.place, "urls.status or told.status must say where the state of work is read")
    for purpose, url in profile.urls.items():
        if purpose not in profile.told and "{id}" not in url:
            report.problem(
                fields.at("urls"), f"{purpose} must have {{id}}, or all work would be looked for in one place"
            )
    if not profile.images:
        report.problem(fields.place, "images must say where the result's links are")
    if not profile.states:
        report.problem(fields.place, "states must say what the provider's words mean")
    elif TaskState.SUCCEEDED not in profile.states.values():
        report.problem(fields.at("states"), "none of the words means succeeded")
    if profile.callback is not None:
        _check_callback(fields, profile.callback, report)


_NEEDED = {
    Verification.NONE: (),
    Verification.STANDARD_WEBHOOKS: ("keys_url",),
    Verification.HMAC_SHA256: ("secret_field", "signature_header"),
    Verification.ED25519_JWKS: ("keys_url", "signature_header", "timestamp_header", "signed_headers"),
}
"""What each way to believe a callback cannot do without."""


def _check_callback(fields: Fields, callback: CallbackProfile, report: Report) -> None:
    missing = [key for key in _NEEDED[callback.verify] if not getattr(callback, key)]
    if missing:
        report.problem(fields.at("callback"), f"verify {callback.verify} needs {' and '.join(missing)}")
    elif callback.timestamp_header and callback.timestamp_header not in callback.signed_headers:
        report.problem(fields.at("callback"), "timestamp_header must be among signed_headers, or it proves nothing")


def _by_purpose(
    fields: Fields, key: str, reader: Reader[str], before: Mapping[UrlPurpose, str]
) -> dict[UrlPurpose, str] | None:
    inner = fields.within(key, TASK_URLS)
    if inner is None:
        return None
    found = {purpose: inner.read(purpose, reader) for purpose in UrlPurpose}
    return {**before, **{purpose: value for purpose, value in found.items() if value is not None}}


def _words(fields: Fields, key: str, words: type[W], before: Mapping[str, W], report: Report) -> dict[str, W] | None:
    """Read a map of the provider's words to ours; those of the base stay unless they are named again."""
    if fields.node(key) is None:
        return None
    read = one_of(words)
    found: dict[str, W] = dict(before)
    for name, node in fields.entries(key):
        word = read(node, report)
        if word is not None:
            found[name] = words(word)
    if len(found) > _MOST_WORDS:
        report.problem(fields.at(key), f"more than {_MOST_WORDS} words")
    return found


def _word(fields: Fields, key: str, words: type[W]) -> W | None:
    word = fields.read(key, one_of(words))
    return None if word is None else words(word)


def _poll(task: Fields, before: PollTimes, report: Report) -> PollTimes | None:
    fields = task.within("poll", TASK_POLL)
    if fields is None:
        return None
    read: dict[str, Any] = {key: fields.read(key, duration) for key in ("first", "after")}
    read |= {key: fields.read(key, pause) for key in ("every", "then")}
    read |= {key: fields.read(key, whole(1, 1000)) for key in ("at_once", "per_second")}
    changes = {key: value for key, value in read.items() if value is not None}
    times = dataclasses.replace(before, **changes)
    if times.then < times.every:
        report.problem(fields.at("then"), f"is shorter than every ({times.every:g}s)")
    return times


def _callback(task: Fields, before: CallbackProfile | None) -> CallbackProfile | None:
    fields = task.within("callback", TASK_CALLBACK)
    if fields is None:
        return None
    signed = fields.read("signed_headers", one_or_listed(_header))
    read: dict[str, Any] = {
        "verify": _word(fields, "verify", Verification),
        "query": fields.read("query", text),
        "keys_url": fields.read("keys_url", _keys_url),
        "key": fields.read("key", path),
        "secret_field": fields.read("secret_field", path),
        "signature_header": fields.read("signature_header", _header),
        "timestamp_header": fields.read("timestamp_header", _header),
        "signed_headers": signed,
    }
    changes = {key: value for key, value in read.items() if value is not None}
    return dataclasses.replace(before or CallbackProfile(), **changes)


def _amount(fields: Fields, key: str) -> Amount | None:
    inner = fields.within(key, TASK_COST)
    if inner is None:
        return None
    where, usd = inner.required("path", path), inner.required("usd", exact)
    return None if where is None or usd is None else Amount(path=where, usd=usd)


def path(node: Node, report: Report) -> str | None:
    """A path into JSON, such as `error.code` or `results[*].url`."""
    value = text(node, report)
    if value is None:
        return None
    try:
        json_path.parse(value)
    except ValueError:
        report.problem(node.place, f"{shown(value)} is no path: {json_path.RULE}")
        return None
    return value


def exact(node: Node, report: Report) -> Fraction | None:
    """A positive number in quotes, as a decimal or as a fraction: "0.01", "1/68"."""
    if not isinstance(node, Value) or node.kind is not Kind.QUOTED:
        report.problem(node.place, f'must be a number in quotes, such as "0.01" or "1/68", not {described(node)}')
        return None
    if not _EXACT.fullmatch(node.text):
        report.problem(node.place, f'{shown(node.text)} is not a number such as "0.01" or "1/68"')
        return None
    number, _, divisor = node.text.partition("/")
    value = Fraction(number) / int(divisor or 1)
    if not value:
        report.problem(node.place, "must be above 0")
        return None
    return value


def _below_the_base(value: str) -> bool:
    return value.startswith("/") and value.isascii() and value.isprintable() and " " not in value


def _is_keys_url(value: str) -> bool:
    return _below_the_base(value) or (urlsplit(value).scheme in ("http", "https") and bool(urlsplit(value).netloc))


_template = matching(_below_the_base, "a path below base_url, such as /tasks/{id}")
_keys_url = matching(_is_keys_url, "a URL, nor a path below base_url")
_host = matching(_HOST.fullmatch, "a host such as *.example.com or example.com:8443")


def _header(node: Node, report: Report) -> str | None:
    value = header_name(node, report)
    return None if value is None else value.lower()
