"""Administration: policy, tasks, call backs and keys as the console shows them, and what it does with them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from gateway.admin.callbacks import callback_actions, callback_views
from gateway.admin.explain import explain
from gateway.config.values import NAME
from gateway.console.attention import retirements
from gateway.console.scene import Scene
from gateway.domain.errors import InvalidRequest, NotFound
from gateway.domain.task import TaskStatus
from gateway.ledger.keys import KeyRecord, Keys, UnknownKey
from gateway.ledger.names import Names
from gateway.process.reload import PolicyReloader
from gateway.tasks.document import document
from gateway.web.admin import Question

MOST_TASKS = 50
LONGEST_LABEL = 100
LONGEST_GRACE = 30 * 86_400.0
"""Seconds for which a key that was replaced may stay good."""
KEY_ID = re.compile(r"key_[A-Za-z0-9]{1,64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Administration:
    """Of one process. Views raise LedgerUnavailable, actions InvalidRequest and NotFound too."""

    scene: Scene
    keys: Keys
    reloader: PolicyReloader | None

    async def policy(self, _: Mapping[str, str]) -> dict[str, object]:
        """Return what is loaded where and since when, what was wrong with the last reload, and what is in it."""
        policy, words = self.scene.policy, await self.scene.words.now()
        return {
            "digest": policy.digest,
            "can_reload": self.reloader is not None,
            "processes": [
                {name: word.get(name) for name in _SHOWN} | {"reload_failed": word.get("reload_failed")}
                for word in words
            ],
            "retirements": retirements(self.scene),
            "job_types": [
                {
                    "name": name,
                    "order": str(kind.order),
                    "routes": [route.name for route in kind.routes],
                    "steps": len(kind.degrade),
                    "shadow": kind.shadow.route.name if kind.shadow else None,
                    "experiment": kind.experiment.name if kind.experiment else None,
                }
                for name, kind in policy.job_types.items()
            ],
            "projects": sorted(policy.projects),
            "counts": {
                "models": len({route.model.name for route in policy.routes.values()}),
                "providers": len(policy.providers),
                "routes": len(policy.routes),
                "job_types": len(policy.job_types),
                "projects": len(policy.projects),
            },
        }

    async def tasks(self, query: Mapping[str, str]) -> dict[str, object]:
        """Return how many tasks there are, the newest of one project or of all, and dead call backs."""
        queue, wanted = self.scene.application.tasking.queue, query.get("project")
        ids = await self._newest([wanted] if wanted else list(self.scene.policy.projects))
        found = await asyncio.gather(*(queue.find(task_id) for task_id in ids))
        counts = await queue.counts()
        callbacks = callback_views(self.scene.application.outgoing.callbacks)["callbacks"]
        return {
            "counts": {str(status): counts.get(status, 0) for status in TaskStatus},
            "tasks": [{**document(task), "project": task.order.project} for task in found if task is not None],
            "callbacks": await callbacks({"project": wanted} if wanted else {}),
            "projects": sorted(self.scene.policy.projects),
        }

    async def _newest(self, projects: Sequence[str]) -> list[str]:
        """Return ids of the newest tasks of all these projects, newest first, by the numbers that they got in turn."""
        store, names = self.scene.application.store, Names(self.scene.application.realm)

        async def numbered(some: Sequence[str], most: int) -> list[tuple[float, str, str]]:
            asked = [("ZREVRANGE", names.tasks_of(project), 0, most - 1, "WITHSCORES") for project in some]
            replies = await store.execute_all(asked) if asked else []
            for failed in (reply for reply in replies if isinstance(reply, Exception)):
                raise failed
            pages = zip(some, replies, strict=True)
            found = [(float(n), each, project) for project, page in pages for each, n in _pairs(page)]
            return sorted(found, reverse=True)[:MOST_TASKS]

        lately = [project for _, _, project in await numbered(projects, 1)]
        return [task_id for _, task_id, _ in await numbered(lately, MOST_TASKS)]

    async def all_keys(self, _: Mapping[str, str]) -> dict[str, object]:
        """Return every key ever made, newest first; the keys themselves are not known."""
        records = await self.keys.list()
        return {
            "keys": [_shown(each) for each in reversed(records)],
            "projects": sorted(self.scene.policy.projects),
            "job_types": sorted(self.scene.policy.job_types),
        }

    def actions(self) -> dict[str, Question]:
        """Return what the console does, by name; each takes a JSON object."""
        done: dict[str, Question] = {
            "explain": partial(explain, self.scene.application),
            "keys/create": self._create,
            "keys/rotate": self._rotate,
            "keys/revoke": self._revoke,
            "callbacks/retry": self._retry,
        }
        return done | ({"reload": self._reload} if self.reloader is not None else {})

    async def _create(self, asked: Mapping[str, object]) -> object:
        project, name, job_type = (_text(asked, field) for field in ("project", "name", "job_type"))
        if project not in self.scene.policy.projects:
            raise InvalidRequest(f"Policy has no project {project!r}.", param="project")
        if len(name) > LONGEST_LABEL or not name.isprintable():
            raise InvalidRequest(f"name: one line of {LONGEST_LABEL} characters at most.", param="name")
        if job_type and not NAME.fullmatch(job_type):
            raise InvalidRequest("job_type cannot be a name in a policy.", param="job_type")
        made = await self.keys.create(project, name=name, job_type=job_type or None)
        return {"secret": made.secret, "key": _shown(made.record)}

    async def _rotate(self, asked: Mapping[str, object]) -> object:
        grace = asked.get("grace", 0)
        if isinstance(grace, bool) or not isinstance(grace, int | float) or not 0 <= grace <= LONGEST_GRACE:
            raise InvalidRequest(f"grace must be seconds from 0 to {LONGEST_GRACE:.0f}.", param="grace")
        made = await _known(self.keys.rotate, asked, grace=float(grace))
        return {"secret": made.secret, "key": _shown(made.record)}

    async def _revoke(self, asked: Mapping[str, object]) -> object:
        return {"key": _shown(await _known(self.keys.revoke, asked))}

    async def _retry(self, asked: Mapping[str, object]) -> object:
        retry = callback_actions(self.scene.application.outgoing.callbacks)["callbacks/{id}/retry"]
        return await retry({"id": _text(asked, "id")})

    async def _reload(self, _: Mapping[str, object]) -> object:
        assert self.reloader is not None
        answer = await self.reloader.answer({})
        self.scene.words.stale()
        return answer


_SHOWN = ("instance", "host", "pid", "started", "makes_calls", "policy", "policy_since", "problems", "at")


async def _known(change: Callable[..., Awaitable[Any]], asked: Mapping[str, object], **how: float) -> Any:
    key_id = _text(asked, "id")
    if not KEY_ID.fullmatch(key_id):
        raise InvalidRequest("id must be that of a key, such as key_….", param="id")
    try:
        return await change(key_id, **how)
    except UnknownKey as error:
        raise NotFound(f"There is no key {key_id!r}.", param="id") from error


def _pairs(page: Sequence[str]) -> Iterator[tuple[str, str]]:
    return zip(page[::2], page[1::2], strict=True)


def _text(asked: Mapping[str, object], name: str) -> str:
    value = asked.get(name) or ""
    if not isinstance(value, str):
        raise InvalidRequest(f"{name} must be text.", param=name, code="invalid_type")
    return value


def _shown(record: KeyRecord) -> dict[str, object]:
    state = "live" if record.live(datetime.now(UTC).timestamp()) else "revoked" if record.revoked else "expired"
    return {**asdict(record), "state": state}
