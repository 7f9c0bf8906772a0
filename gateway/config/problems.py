"""What is wrong with a policy: places, problems, suggestions, and the report that collects them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field

_LONGEST_GUESS = 100
_LONGEST_SHOWN = 60


@dataclass(frozen=True, slots=True)
class Place:
    """Where something stands: the file as the user named it, the line (from 1), the dotted key path."""

    file: str
    line: int
    key: str


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing to mend, or to know of. `key` is empty where it concerns a whole file."""

    file: str
    line: int
    key: str
    message: str

    def __str__(self) -> str:
        return format_problem(self)


def format_problem(problem: Problem) -> str:
    """Return `file:line: key: message` on one line."""
    key = f"{problem.key}: " if problem.key else ""
    return f"{problem.file}:{problem.line}: {key}{problem.message}"


def unmasked(problem: Problem) -> str:
    """Return `file:line: key message`, for a log: a colon behind `api_key` makes the words after it look secret."""
    return " ".join(part for part in (f"{problem.file}:{problem.line}:", problem.key, problem.message) if part)


@dataclass(slots=True)
class Report:
    """Collects every problem of one run, so that nothing stops at the first."""

    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)

    def problem(self, place: Place, message: str) -> None:
        """Note an error: the policy cannot be used."""
        self.problems.append(Problem(place.file, place.line, place.key, message))

    def warn(self, place: Place, message: str) -> None:
        """Note a warning: the policy can be used."""
        self.warnings.append(Problem(place.file, place.line, place.key, message))


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ` (did you mean X?)` for the nearest known word, or nothing."""
    if len(word) > _LONGEST_GUESS:
        return ""
    by_lower_case = {each.lower(): each for each in sorted(known)}
    close = difflib.get_close_matches(word.lower(), by_lower_case, n=1)
    return f" (did you mean {by_lower_case[close[0]]}?)" if close else ""


def shown(text: str) -> str:
    """Return a value as it may be printed in a message: quoted, escaped, cut to a bearable length."""
    cut = text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "…"
    return '"' + cut.encode("unicode_escape").decode("ascii").replace("\\u2026", "…").replace('"', '\\"') + '"'
