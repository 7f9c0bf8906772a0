"""Mark: a short digest of all that a policy says of a project's requests of one job type.

Two policies with the same mark treat such requests alike, whatever else they say.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass

from gateway.domain.policy import JobType, Policy, Project

_DIGITS = 16


def mark(policy: Policy, project: Project, job_type: JobType) -> str:
    """Return the mark, 16 hex digits; worked out once for each project and job type of a policy."""
    key = (project.name, job_type.name)
    found = policy.marks.get(key)
    if found is None:
        found = policy.marks[key] = _digest(
            _of_job_type(policy, policy.job_types.get(job_type.name, job_type)), _plain(project), _plain(policy.budgets)
        )
    return found


def _of_job_type(policy: Policy, job_type: JobType) -> str:
    key = ("", job_type.name)  # shared by all projects
    found = policy.marks.get(key)
    if found is None:
        found = policy.marks[key] = _digest(_plain(job_type))
    return found


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:_DIGITS]


def _plain(value: object) -> str:
    """A value as text that is the same in every process: sets and maps in order, a secret as its stars."""
    if is_dataclass(value) and not isinstance(value, type):
        inner = (f"{field.name}={_plain(getattr(value, field.name))}" for field in fields(value))
        return f"{type(value).__name__}({','.join(inner)})"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{_plain(each)}" for key, each in value.items()) + "}"
    if isinstance(value, frozenset | set):
        return "{" + ",".join(sorted(map(_plain, value))) + "}"
    if isinstance(value, tuple | list):
        return "[" + ",".join(map(_plain, value)) + "]"
    return repr(value)
