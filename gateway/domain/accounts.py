"""Accounts: which of them several projects may use. What a vendor keeps under an id there, each of these could name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from gateway.domain.errors import InvalidRequest
from gateway.domain.policy import JobType, Policy, Project
from gateway.domain.route import Route, Secret

Account = tuple[str, Secret | None]
"""An endpoint and its key: two providers in policy may be one account."""

_LISTS, _SINGLE = ("images",), ("mask", "markup")


def shared(policy: Policy, project: Project) -> frozenset[str]:
    """Return the names of the providers whose account another project than this one may use, too."""
    others = {
        account
        for other in policy.projects.values()
        if other.name != project.name
        for account in _accounts(policy, other)
    }
    return frozenset(name for name in policy.providers if _account(policy, name) in others)


def file_of(fields: Mapping[str, object]) -> str | None:
    """Return where an edit's body first names a file by its vendor's id; None if it does not."""
    places = [(f"{name}[{at}]", each) for name in _LISTS for at, each in enumerate(_items(fields.get(name)))]
    places += [(name, fields.get(name)) for name in _SINGLE]
    named = (place for place, each in places if isinstance(each, dict) and each.get("file_id") is not None)
    return next(named, None)


SEND_IMAGE = "Send the image itself, as image_url with a data: URL."


def refused(param: str, instead: str = SEND_IMAGE, what: str = "a file") -> InvalidRequest:
    """Return the error for what other projects could name as well; `instead` is the sentence that tells what to do."""
    message = (
        f"{param} names {what} by its id at an account that other projects use too: whose it is cannot be told. "
        f"{instead}"
    )
    return InvalidRequest(message, param=param, code="shared_account")


def _items(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _account(policy: Policy, name: str) -> Account:
    config = policy.providers[name]
    return config.base_url, config.api_key


def _accounts(policy: Policy, project: Project) -> Iterator[Account]:
    """Yield every account that a project may use, by whatever way."""
    for name in project.job_types:
        kind = policy.job_types[name]
        yield from ((route.provider.base_url, route.provider.api_key) for route in _routes(kind))
        if kind.responses is not None:
            yield from (_account(policy, each) for each in kind.responses.providers)
    yield from (_account(policy, rules.provider) for rules in project.passthrough)


def _routes(kind: JobType) -> Iterator[Route]:
    yield from kind.routes
    for step in kind.degrade:
        yield from step.routes
    if kind.experiment is not None:
        yield from kind.experiment.routes
