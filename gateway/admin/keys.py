"""What the admin plane shows of keys, and does with them; the console does the same by the same rules."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from gateway.config.problems import did_you_mean, shown
from gateway.domain.errors import InvalidRequest, NotFound
from gateway.ledger.keys import FOR_GOOD, LONGEST_GRACE, KeyRecord, Keys, NewKey, UnknownKey
from gateway.process.app import Application
from gateway.web.admin import Question, View

log = logging.getLogger(__name__)

LONGEST_LABEL = 100

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class KeyAdministration:
    """Does what it is asked with keys, and logs what was done. InvalidRequest, NotFound, LedgerUnavailable."""

    application: Application
    keys: Keys

    async def create(self, asked: Mapping[str, object]) -> NewKey:
        """Make a key by `{project, name, job_type}`."""
        _check_fields(asked, "project", "name", "job_type")
        project, name, job_type = (text_field(asked, field) for field in ("project", "name", "job_type"))
        if not project:
            raise InvalidRequest("project is missing: whose money and quotas the key draws on.", param="project")
        projects = self.application.policy.projects
        if project not in projects:
            near = did_you_mean(project, projects)
            raise InvalidRequest(f"Policy has no project {shown(project)}{near}.", param="project")
        if len(name) > LONGEST_LABEL or not name.isprintable():
            raise InvalidRequest(f"name: one line of {LONGEST_LABEL} characters at most.", param="name")
        if job_type and job_type not in (own := projects[project].job_types):
            near = did_you_mean(job_type, own)
            message = f"Project {project} has no job type {shown(job_type)}{near}."
            raise InvalidRequest(message, param="job_type")
        made = await self.keys.create(project, name=name, job_type=job_type or None)
        _log("key created", made.record)
        return made

    async def rotate(self, asked: Mapping[str, object]) -> NewKey:
        """Make a key in place of one, by `{id, grace}`: the old one ends now, or after so many seconds."""
        _check_fields(asked, "id", "grace")
        grace = asked.get("grace", 0)
        if isinstance(grace, bool) or not isinstance(grace, int | float) or not 0 <= grace <= LONGEST_GRACE:
            raise InvalidRequest(f"grace must be seconds from 0 to {LONGEST_GRACE:.0f}.", param="grace")
        made = await _known(lambda key_id: self.keys.rotate(key_id, grace=float(grace)), asked)
        _log("key rotated", made.record, replaces=asked["id"], grace=round(made.grace, 3))
        return made

    async def revoke(self, asked: Mapping[str, object]) -> KeyRecord:
        """End the key of that `id` at once."""
        ended = await _known(self.keys.revoke, asked)
        _log("key revoked", ended)
        return ended


def key_views(administration: KeyAdministration) -> dict[str, View]:
    """Return the views by their names under `/admin/`."""

    async def every(_: Mapping[str, str]) -> object:
        records, now = await administration.keys.list(), await administration.keys.now()
        return [record.shown(now) for record in reversed(records)]

    return {"keys": every}


def key_questions(administration: KeyAdministration) -> dict[str, Question]:
    """Return what is done with keys by a JSON object, by its name under `/admin/`."""

    async def create(asked: Mapping[str, object]) -> object:
        return (await administration.create(asked)).shown()

    async def rotate(asked: Mapping[str, object]) -> object:
        return (await administration.rotate(asked)).shown()

    return {"keys": create, "keys/{id}/rotate": rotate}


def key_actions(administration: KeyAdministration) -> dict[str, View]:
    """Return what is done with keys by their ids alone, by its name under `/admin/`."""

    async def revoke(query: Mapping[str, str]) -> object:
        return (await administration.revoke(query)).shown(FOR_GOOD)

    return {"keys/{id}/revoke": revoke}


def _log(event: str, record: KeyRecord, **more: object) -> None:
    log.info(event, extra={"fields": {"key_id": record.id, "project": record.project, **more}})


async def _known(change: Callable[[str], Awaitable[Result]], asked: Mapping[str, object]) -> Result:
    try:
        return await change(text_field(asked, "id"))
    except UnknownKey as error:
        raise NotFound("There is no key of that id: ids begin with key_, and are listed.", param="id") from error


def _check_fields(asked: Mapping[str, object], *known: str) -> None:
    if unknown := sorted(asked.keys() - set(known)):
        raise InvalidRequest(f"Unknown field {unknown[0]!r}; known are {', '.join(known)}.", param=unknown[0])


def text_field(asked: Mapping[str, object], name: str) -> str:
    """Return a field of what was asked, empty if it is not there; InvalidRequest if it is no text."""
    value = asked.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InvalidRequest(f"{name} must be text.", param=name, code="invalid_type")
    return value
