"""What is measured: something that stands between a client and the upstream, or nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.answers import MODEL, edit, generation
from benchmarks.client import Target
from benchmarks.processes import Family

GENERATIONS, EDITS = "v1/images/generations", "v1/images/edits"


@dataclass(frozen=True)
class Subject:
    """A way to the upstream: how it is asked for each kind of answer, and which processes it takes."""

    name: str
    target: Callable[[str], Target]
    family: Family | None = None
    store: Family | None = None
    """The processes that keep its books, where these are apart."""
    key: str = ""
    """What its figures are found by; without one, the first word of its name."""

    @property
    def short(self) -> str:
        """The name under which its figures stand."""
        return self.key or self.name.split()[0].lower()


def ask(
    port: int, kind: str, *, path: str = "/", headers: tuple[tuple[str, str], ...] = (), model: str = MODEL
) -> Target:
    """Return the request for a kind of answer, or an upload for `edit`, under a path that ends in a slash."""
    if kind == "edit":
        body, content_type = edit(model)
        return Target(port, path + EDITS, body, headers, content_type)
    return Target(port, path + GENERATIONS, generation(model), headers)


def plain(name: str, port: int, family: Family | None = None) -> Subject:
    """A subject whose paths are the upstream's own."""
    return Subject(name, lambda kind: ask(port, kind, path=f"/{kind}/"), family)
