"""Policy files: found, read, hashed, and merged into sections."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from gateway.config.documents import Node, Table, parse_document
from gateway.config.fields import Fields, as_items, as_table, is_null
from gateway.config.problems import Place, Report, shown
from gateway.config.schema import LIST_SECTIONS, MAP_SECTIONS, NAMED_SECTIONS, SECTIONS
from gateway.config.values import NAME, NAME_RULE

MAX_FILE_BYTES = 5_000_000
_SUFFIXES = {".yaml", ".yml"}
_TESTS = "tests"


class _Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...


@dataclass(frozen=True, slots=True)
class Entry:
    """One named thing of a section: its value, and the place of its name."""

    node: Node
    place: Place


@dataclass(slots=True)
class Sources:
    """The sections of all files of one directory.

    `complete` is false if a file could not be read whole, `unread` are sections of which a part could not be.
    """

    named: dict[str, dict[str, Entry]] = field(default_factory=lambda: {section: {} for section in NAMED_SECTIONS})
    listed: dict[str, list[Node]] = field(default_factory=lambda: {section: [] for section in LIST_SECTIONS})
    maps: dict[str, list[Node]] = field(default_factory=lambda: {section: [] for section in MAP_SECTIONS})
    complete: bool = True
    unread: set[str] = field(default_factory=set)

    def has_all_of(self, section: str) -> bool:
        """Tell whether what a section does not have is nowhere."""
        return self.complete and section not in self.unread


def read_sources(directory: Path, label: str, digest: _Hash, report: Report) -> Sources:
    """Read every policy file under a directory; `digest` takes each one's name (after `label`) and bytes."""
    sources = Sources()
    root = Place(str(directory), 1, "")
    if wrong := _directory_problem(directory):
        report.problem(root, wrong)
        sources.complete = False
        return sources

    def unreadable(error: OSError) -> None:
        sources.complete = False
        report.problem(Place(str(error.filename), 1, ""), f"cannot be read: {error.strerror}")

    found = policy_files(directory, unreadable)
    for path in found:
        data = read_file(path, report)
        document = None
        if data is not None:
            _count_in(digest, f"{label}/{path.relative_to(directory).as_posix()}", data)
            document = read_document(data, str(path), report)
        if document is None:
            sources.complete = False
        else:
            _merge(document, sources, report)
    if not found and sources.complete:
        report.problem(root, "holds no policy: no file ends in .yaml or .yml")
        sources.complete = False
    return sources


def _directory_problem(directory: Path) -> str | None:
    try:
        return None if directory.is_dir() else "is not a directory"
    except OSError as error:  # one above it may not be searched, or its file system is away
        return f"cannot be read: {error.strerror}"


def read_document(data: bytes, file: str, report: Report, *, section: str = "routes") -> Table | None:
    """Return a file's bytes as a map of sections such as this one; None, reported, if they are none."""
    if data:
        return parse_document(data, file, report, section=section)
    # What a writer begins with; served, it would refuse everybody, and as tests it would pass.
    report.problem(Place(file, 1, ""), "is empty: it is still being written, or should hold at least a comment")
    return None


def _count_in(digest: _Hash, name: str, data: bytes) -> None:
    encoded = name.encode("utf-8", "surrogateescape")
    digest.update(b"%d %d\n" % (len(encoded), len(data)) + encoded + data)


def policy_files(directory: Path, unreadable: Callable[[OSError], None]) -> list[Path]:
    """Return the policy files under a directory in a fixed order; `unreadable` hears of folders that cannot be read.

    Links to folders are followed, since clusters mount folders so; none is read twice, wherever links lead.
    """
    found: list[Path] = []
    seen: set[str] = set()
    for parent, folders, files in os.walk(directory, onerror=unreadable, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != _TESTS)
        paths = (Path(parent, name) for name in files if not name.startswith("."))
        found.extend(path for path in paths if path.suffix.lower() in _SUFFIXES)
    return sorted(found, key=lambda path: path.relative_to(directory).as_posix())


def read_file(path: Path, report: Report) -> bytes | None:
    """Return a file's bytes; None, reported, if it is no regular file, cannot be read, or is too large."""
    place = Place(str(path), 1, "")
    try:
        if not path.is_file():
            dangling = path.is_symlink() and not path.exists()
            report.problem(place, "is a link that leads nowhere" if dangling else "is not a regular file")
            return None
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        report.problem(place, f"cannot be read: {error.strerror}")
        return None
    if len(data) > MAX_FILE_BYTES:
        report.problem(place, f"is larger than {MAX_FILE_BYTES // 10**6} MB")
        return None
    return data


def _merge(document: Table, sources: Sources, report: Report) -> None:
    sections = Fields(document, SECTIONS, report)
    for section, known in sources.named.items():
        node = sections.node(section)
        table = as_table(node, report) if node is not None else None
        if not sections.is_whole(section):
            sources.unread.add(section)
        for name, value in table.nodes.items() if table else ():
            place = table.keys[name] if table else value.place
            if not NAME.fullmatch(name):
                report.problem(place, f"{shown(name)} cannot be a name: {NAME_RULE}")
            if name in known:
                first = known[name].place
                report.problem(place, f"this name was already given at {first.file}:{first.line}")
            else:
                known[name] = Entry(value, place)
    for section, nodes in sources.listed.items():
        node = sections.node(section)
        if node is not None and not is_null(node):
            nodes.extend(as_items(node, report))
    for section, nodes in sources.maps.items():
        node = sections.node(section)
        if node is not None:
            nodes.append(node)
