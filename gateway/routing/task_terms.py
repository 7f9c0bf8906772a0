"""Task terms: whether a request is to be answered later, by a task, and on which terms."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from gateway.domain.errors import InvalidRequest
from gateway.domain.job import Job, Wishes
from gateway.domain.policy import Project

ASYNC, CALLBACK = "async", "callback_url"
"""Body fields that ask for a task; neither reaches a provider."""
LONGEST_URL = 2048
"""Characters of a callback's URL."""

Guard = Callable[[str], str | None]
"""Says why a URL may not be called, in words for whoever gave it; None if nothing speaks against it."""


@dataclass(frozen=True, slots=True)
class TaskTerms:
    """A request becomes a task. `preferred` tells that it said so by `Prefer`, `always` that its project has no other.

    `max_wait` is seconds that it may wait before it begins, where the client said so.
    """

    callback_url: str | None = None
    max_wait: float | None = None
    preferred: bool = False
    always: bool = False


def plain_guard(url: str) -> str | None:
    """Say why a URL cannot be one to call; whether it leads inside is not looked at."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        usable = False
    return None if usable and url.isascii() and url.isprintable() else "it is no http or https URL"


def task_terms(
    job: Job, fields: Mapping[str, object], wishes: Wishes, project: Project, guard: Guard
) -> TaskTerms | None:
    """Return the terms of a task; None for a request that is answered when it is done.

    InvalidRequest where a field has no usable value, or where a stream is asked for that nobody would read.
    """
    asked, url = _flag(fields.get(ASYNC)), _callback(fields.get(CALLBACK), guard)
    if not (asked or url is not None or wishes.respond_async or project.asynchronous):
        return None
    if job.stream:
        message = "stream: a task is answered later, as a whole; leave out stream, or what asks for a task."
        raise InvalidRequest(message, param="stream", code="unsupported_parameter")
    return TaskTerms(url, wishes.max_wait, preferred=wishes.respond_async, always=project.asynchronous)


def _flag(value: object) -> bool:
    if value in (None, False) or (isinstance(value, str) and value.lower() == "false"):
        return False
    if value is True or (isinstance(value, str) and value.lower() == "true"):
        return True
    raise InvalidRequest("async must be true or false.", param=ASYNC, code="invalid_type")


def _callback(value: object, guard: Guard) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise InvalidRequest("callback_url must be a string.", param=CALLBACK, code="invalid_type")
    if len(value) > LONGEST_URL:
        message = f"callback_url has {len(value)} characters; at most {LONGEST_URL} are allowed."
        raise InvalidRequest(message, param=CALLBACK, code="string_above_max_length")
    why = plain_guard(value) or guard(value)
    if why is not None:
        raise InvalidRequest(f"callback_url cannot be called: {why}.", param=CALLBACK)
    return value
