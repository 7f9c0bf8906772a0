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
    _refused: set[tuple[str, str]] = field(default_factory=set)

    def problem(self, place: Place, message: str) -> None:
        """Note an error: the policy cannot be used."""
        if not self.is_refused(place):
            self.problems.append(Problem(place.file, place.line, place.key, message))

    def refuse(self, place: Place, message: str) -> None:
        """Note an error by which a whole value cannot be read: nothing more is said about it after that."""
        self.problem(place, message)
        self.mute(place)

    def mute(self, place: Place) -> None:
        """Have nothing more said about a value; what is wrong with it was told already."""
        self._refused.add((place.file, place.key))

    def is_refused(self, place: Place) -> bool:
        """Tell whether a value was refused as a whole; of the values within it others may be told."""
        return (place.file, place.key) in self._refused

    def warn(self, place: Place, message: str) -> None:
        """Note a warning: the policy can be used."""
        self.warnings.append(Problem(place.file, place.line, place.key, message))


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that is probably meant, if any."""
    if len(word) > _LONGEST_GUESS:
        return None
    by_lower_case = {each.lower(): each for each in sorted(known)}
    close = difflib.get_close_matches(word.lower(), by_lower_case, n=1)
    return by_lower_case[close[0]] if close else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ` (did you mean X?)` for the nearest known word, or nothing."""
    near = nearest(word, known)
    return f" (did you mean {near}?)" if near else ""


def shown(text: str) -> str:
    """Return a value as it may be printed in a message: quoted, escaped, cut to a bearable length."""
    cut = text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "…"
    plain = (each if each.isprintable() and each != "\\" else _escaped(each) for each in cut)
    return '"' + "".join(plain).replace('"', '\\"') + '"'


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
