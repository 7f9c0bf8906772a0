"""Administration: policy, tasks, callbacks and keys as the console shows them, and what it does with them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial

from gateway.admin.callbacks import callback_actions, callback_views
from gateway.admin.explain import explain
from gateway.admin.keys import KeyAdministration, text_field
from gateway.console.attention import retirements
from gateway.console.page_data import PageData
from gateway.domain.task import TaskStatus
from gateway.ledger.keys import FOR_GOOD, KeyRecord, NewKey
from gateway.ledger.names import Names
from gateway.process.reload import PolicyReloader
from gateway.tasks.document import document
from gateway.web.admin import Question

MOST_TASKS = 50


@dataclass(frozen=True, slots=True)
class Administration:
    """Of one process. Views raise LedgerUnavailable, actions InvalidRequest and NotFound too."""

    data: PageData
    keys: KeyAdministration
    reloader: PolicyReloader | None

    async def policy(self, _: Mapping[str, str]) -> dict[str, object]:
        """Return what is loaded where and since when, what was wrong with the last reload, and what is in it."""
        policy, words = self.data.policy, await self.data.words.now()
        return {
            "digest": policy.digest,
            "can_reload": self.reloader is not None,
            "processes": [
                {name: word.get(name) for name in _SHOWN} | {"reload_failed": word.get("reload_failed")}
                for word in words
            ],
            "retirements": retirements(self.data),
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
        """Return how many tasks there are, the newest of one project or of all, and dead callbacks."""
        queue, wanted = self.data.application.tasks.queue, query.get("project")
        ids = await self._newest([wanted] if wanted else list(self.data.policy.projects))
        found = await asyncio.gather(*(queue.find(task_id) for task_id in ids))
        counts = await queue.counts()
        callbacks = callback_views(self.data.application.egress.callbacks)["callbacks"]
        return {
            "counts": {str(status): counts.get(status, 0) for status in TaskStatus},
            "tasks": [{**document(task), "project": task.order.project} for task in found if task is not None],
            "callbacks": await callbacks({"project": wanted} if wanted else {}),
            "projects": sorted(self.data.policy.projects),
        }

    async def _newest(self, projects: Sequence[str]) -> list[str]:
        """Return ids of the newest tasks of all these projects, newest first, by the numbers that they got in turn."""
        store, names = self.data.application.store, Names(self.data.application.realm)

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
        """Return every key ever made, newest first, and each project's job types; the keys are not known."""
        records, now = await self.keys.keys.list(), await self.keys.keys.now()
        return {
            "keys": [_shown(each, now) for each in reversed(records)],
            "job_types": {name: sorted(each.job_types) for name, each in sorted(self.data.policy.projects.items())},
        }

    def actions(self) -> dict[str, Question]:
        """Return what the console does, by name; each takes a JSON object."""
        done: dict[str, Question] = {
            "explain": partial(explain, self.data.application),
            "keys/create": self._create,
            "keys/rotate": self._rotate,
            "keys/revoke": self._revoke,
            "callbacks/retry": self._retry,
        }
        return done | ({"reload": self._reload} if self.reloader is not None else {})

    async def _create(self, asked: Mapping[str, object]) -> object:
        return _made(await self.keys.create(asked))

    async def _rotate(self, asked: Mapping[str, object]) -> object:
        return _made(await self.keys.rotate(asked))

    async def _revoke(self, asked: Mapping[str, object]) -> object:
        return {"key": _shown(await self.keys.revoke(asked), FOR_GOOD)}

    async def _retry(self, asked: Mapping[str, object]) -> object:
        retry = callback_actions(self.data.application.egress.callbacks)["callbacks/{id}/retry"]
        return await retry({"id": text_field(asked, "id")})

    async def _reload(self, _: Mapping[str, object]) -> object:
        assert self.reloader is not None
        answer = await self.reloader.answer({})
        self.data.words.stale()
        return answer


_SHOWN = ("instance", "host", "pid", "started", "makes_calls", "policy", "policy_since", "problems", "at")


def _pairs(page: Sequence[str]) -> Iterator[tuple[str, str]]:
    return zip(page[::2], page[1::2], strict=True)


def _made(made: NewKey) -> dict[str, object]:
    return {"secret": made.secret, "key": _shown(made.record, made.record.created)}


def _shown(record: KeyRecord, now: float) -> dict[str, object]:
    return {**asdict(record), "state": record.state(now)}
