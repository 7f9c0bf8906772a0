"""What a label may say: names from configuration, everything else is "other"."""

from __future__ import annotations

import re
from dataclasses import dataclass

from gateway.domain.policy import Policy
from gateway.domain.trial import CONTROL
from gateway.observe.event import NONE

OTHER = "other"

_STATUSES = frozenset(
    {200, 201, 202, 204, 400, 401, 402, 403, 404, 405, 408, 409, 410, 413, 415, 422, 429, 499},
).union(range(500, 600))
_MOST_WORDS = 48
_WORD = re.compile(r"[a-z][a-z0-9_]{0,39}", re.ASCII)


@dataclass(frozen=True, slots=True)
class LabelSets:
    """The names that policy and catalog know; taken anew after each reload of policy."""

    projects: frozenset[str] = frozenset()
    job_types: frozenset[str] = frozenset()
    routes: frozenset[str] = frozenset()
    qualities: frozenset[str] = frozenset()
    models: frozenset[str] = frozenset()
    changes: frozenset[str] = frozenset()
    """What a step of a ladder may change, as `quality=medium`."""

    experiments: frozenset[str] = frozenset()
    providers: frozenset[str] = frozenset()
    arms: frozenset[str] = frozenset()

    @classmethod
    def from_policy(cls, policy: Policy) -> LabelSets:
        """Collect every name that the policy may put into a label."""
        capabilities = [model.capabilities for model in policy.models.values()]
        capabilities += [route.capabilities for route in policy.routes.values()]
        qualities = frozenset({"auto"}.union(*(known.quality for known in capabilities)))
        steps = [step.fields for kind in policy.job_types.values() for step in kind.degrade]
        experiments = [kind.experiment for kind in policy.job_types.values() if kind.experiment]
        return cls(
            projects=frozenset(policy.projects),
            job_types=frozenset(policy.job_types),
            routes=frozenset(policy.routes).union(
                rules.route for project in policy.projects.values() for rules in project.passthrough
            ),
            qualities=qualities,
            models=frozenset(policy.models),
            providers=frozenset(policy.providers),
            changes=frozenset(f"{name}={value}" for fields in steps for name, value in fields.items()).union(
                f"quality={word}" for word in qualities if any("quality" in fields for fields in steps)
            ),
            experiments=frozenset(experiment.name for experiment in experiments),
            arms=frozenset({CONTROL}.union(*(experiment.split for experiment in experiments))),
        )


def bounded(value: str, known: frozenset[str]) -> str:
    """Return the value if it is one of the known ones or "none", else "other"."""
    return value if value in known or value == NONE else OTHER


def bounded_status(status: int) -> str:
    """Return an HTTP status as text: one that the gateway gives, any 5xx, else "other" (a provider's, passed on)."""
    return str(status) if status in _STATUSES else OTHER


class Vocabulary:
    """Words that the code itself says, such as reasons of failures: the first 48 plain words, then "other"."""

    def __init__(self) -> None:
        self._words: set[str] = set()

    def bounded(self, word: str) -> str:
        """Return the word if it is plain (lower case, digits, underscores) and there is room for it, else "other"."""
        if word in self._words:
            return word
        if len(self._words) >= _MOST_WORDS or not _WORD.fullmatch(word):
            return OTHER
        self._words.add(word)
        return word
