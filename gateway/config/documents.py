"""YAML text as a tree of nodes that know their place; nothing but maps, lists and plain values gets through.

Anchors, aliases, tags, duplicate keys, deep nesting and a second document are refused. Types are kept apart as they
were written, since YAML 1.1 reads `no` as false and `1:30` as ninety, and a policy must not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

import yaml
from yaml.reader import Reader
from yaml.resolver import Resolver

from gateway.config.problems import Place, Report, shown

MAX_DEPTH = 20
MAX_NODES = 100_000
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_RESOLVER = Resolver()
_REMEDIES = {
    "expected ':'": "write a key with a colon and a space behind it, as `key: value`",
    "mapping values are not allowed": "give the key above its colon, or put a value that holds a colon in quotes",
    "expected ',' or": "close every bracket and quote, and put a comma between items",
    "end of stream": "close the quote",
    "expected key": "indent the keys of a map alike",
    "<block end>": "indent the keys of a map alike",
}
"""By words of what the parser says."""
_CURLY = re.compile("[\u201c\u201d\u201e\u2018\u2019\u201a].*[\u201c\u201d\u2018\u2019]", re.DOTALL)
"""Text in curly quotes, as word processors and chats make of straight ones."""
_STRANGE_SPACE = re.compile("(?:^ *|[:,-])[\u00a0\u2000-\u200a\u202f\u205f\u3000]")
"""Where a plain space is needed."""
_NUMBER_IN_YAML_1_2 = re.compile(r"[-+]?(0o[0-7]+|0x[0-9a-fA-F]+|(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?)")
_PLAIN_KEY = re.compile(r"[A-Za-z0-9._/-]{1,100}")


class Kind(StrEnum):
    """How a plain value was written, and what YAML makes of it."""

    QUOTED = "quoted text"
    WORD = "text"
    NULL = "null"
    BOOL = "true or false"
    INT = "a number"
    FLOAT = "a decimal number"
    DATE = "a date"
    OTHER = "a YAML operator"


@dataclass(frozen=True, slots=True)
class Value:
    """A plain value, as it stands in the file."""

    place: Place
    text: str
    kind: Kind


@dataclass(frozen=True, slots=True)
class Items:
    """A list."""

    place: Place
    nodes: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """A map. `keys` are the places of the keys themselves, whose lines are what a reader looks for."""

    place: Place
    nodes: dict[str, Node]
    keys: dict[str, Place]


Node = Value | Items | Table

_KINDS = {"null": Kind.NULL, "bool": Kind.BOOL, "int": Kind.INT, "float": Kind.FLOAT, "timestamp": Kind.DATE}


class _Refused(Exception):
    """The file cannot be read on from here."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line
        self.message = message


def parse_document(data: bytes, file: str, report: Report, *, section: str = "routes") -> Table | None:
    """Read one YAML file; None if it is broken (which is reported) and an empty table if it says nothing.

    `section` is one that such a file may hold, for what is said of a file that holds none.
    """
    before = len(report.problems)
    try:
        node = _Composer(file, report).compose(_decoded(data))
    except _Refused as refused:
        report.problem(Place(file, refused.line, ""), refused.message)
        return None
    except yaml.YAMLError as error:
        line = min(_error_line(error), data.count(b"\n") + 1)
        report.problem(Place(file, line, ""), f"not valid YAML: {_error_text(error, data)}")
        return None
    if isinstance(node, Value) and node.kind is Kind.NULL:
        return Table(node.place, {}, {}) if len(report.problems) == before else None
    if not isinstance(node, Table):
        report.problem(Place(file, node.place.line, ""), f"the file must be a map of sections, such as `{section}:`")
        return None
    return node


def _decoded(data: bytes) -> str:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _Refused(data.count(b"\n", 0, error.start) + 1, "the file is not UTF-8; save it as UTF-8") from None
    if strange := Reader.NON_PRINTABLE.search(text):
        line = text.count("\n", 0, strange.start()) + 1
        raise _Refused(line, f"character {shown(strange[0])} is not allowed in YAML")
    return text


def _error_line(error: yaml.YAMLError) -> int:
    # What is scanned is a single word or quoted text, which is wrong from its beginning; what is parsed may be long.
    from_beginning = str(getattr(error, "context", "")).startswith("while scanning")
    marks = (getattr(error, "context_mark", None), getattr(error, "problem_mark", None))
    mark = next(filter(None, marks if from_beginning else reversed(marks)), None)
    return int(mark.line) + 1 if mark else 1


def _error_text(error: yaml.YAMLError, data: bytes) -> str:
    if not isinstance(error, yaml.MarkedYAMLError):
        return shown(str(error))
    mark, lines = error.problem_mark, data.splitlines()
    line = lines[mark.line][: mark.column + 1] if mark and mark.line < len(lines) else b""
    if line.endswith(b"\t") and not line.strip(b" \t-"):  # also behind the dashes of lists
        return "a tab; indent with spaces"
    first = error.context_mark.line if error.context_mark else 0
    if mark and any(_STRANGE_SPACE.search(each.decode()) for each in lines[first : mark.line + 1]):
        return "a space that is none for YAML, such as a no-break space; type it anew"
    context, begun = error.context, error.context_mark.line + 1 if error.context_mark else None
    if context and begun and begun != _error_line(error):
        context += f" begun on line {begun}"
    problem = error.problem or ""
    remedy = next((f"; {remedy}" for words, remedy in _REMEDIES.items() if words in problem), "")
    return ", ".join(part for part in (context, problem) if part) + remedy


class _Composer:
    """Builds nodes from parser events, so that every node is seen before it is built."""

    def __init__(self, file: str, report: Report) -> None:
        self._file = file
        self._report = report
        self._count = 0

    def compose(self, text: str) -> Node:
        """Read the one document of a text."""
        events = iter(yaml.parse(text, Loader=_LOADER))
        node: Node | None = None
        for event in events:
            if not isinstance(event, yaml.DocumentStartEvent):
                continue
            if node is not None:
                raise _Refused(_line(event), "a second document (`---`) in one file; write another file")
            node = self._node(next(events), events, "", 0)
        return node or Value(Place(self._file, 1, ""), "", Kind.NULL)

    def _node(self, event: yaml.Event, events: Iterator[yaml.Event], key: str, depth: int) -> Node:
        line = _line(event)
        self._count += 1
        if depth > MAX_DEPTH:
            raise _Refused(line, f"nested deeper than {MAX_DEPTH} levels")
        if self._count > MAX_NODES:
            raise _Refused(line, f"more than {MAX_NODES} values in one file")
        place = Place(self._file, line, key)
        self._refuse_magic(event, place)
        if isinstance(event, yaml.MappingStartEvent):
            return self._table(place, events, depth)
        if isinstance(event, yaml.SequenceStartEvent):
            nodes: list[Node] = []
            while not isinstance(item := next(events), yaml.SequenceEndEvent):
                nodes.append(self._node(item, events, f"{key}[{len(nodes)}]", depth + 1))
            return Items(place, tuple(nodes))
        if isinstance(event, yaml.ScalarEvent):
            if not event.style and _CURLY.fullmatch(event.value):
                self._report.problem(place, 'curly quotes are part of the text in YAML; write straight ones (")')
                return Value(place, event.value[1:-1], Kind.QUOTED)
            return Value(place, event.value, _kind(event))
        return Value(place, "", Kind.NULL)

    def _table(self, place: Place, events: Iterator[yaml.Event], depth: int) -> Table:
        nodes: dict[str, Node] = {}
        keys: dict[str, Place] = {}
        while not isinstance(event := next(events), yaml.MappingEndEvent):
            key = self._node(event, events, place.key, depth + 1)
            name = key.text if isinstance(key, Value) else "?"
            path = _joined(place.key, name)
            key_place = Place(self._file, key.place.line, path)
            node = self._node(next(events), events, path, depth + 1)
            if not isinstance(key, Value):
                self._report.problem(key_place, "a key must be text")
            elif name in nodes:
                self._report.problem(key_place, f"already given on line {keys[name].line}")
            elif key.kind is Kind.OTHER:
                self._report.problem(key_place, "merge keys are not allowed; write the values out")
            elif key.kind not in {Kind.WORD, Kind.QUOTED}:
                self._report.problem(key_place, f"YAML reads this key as {key.kind}; write it in quotes")
            else:
                nodes[name], keys[name] = node, key_place
                continue
            self._report.mute(place)  # it lacks what could not be read
        return Table(place, nodes, keys)

    def _refuse_magic(self, event: yaml.Event, place: Place) -> None:
        if isinstance(event, yaml.AliasEvent):
            self._report.refuse(place, f"alias *{event.anchor} is not allowed; write the value out")
        elif isinstance(event, yaml.NodeEvent) and event.anchor is not None:
            self._report.problem(place, f"anchor &{event.anchor} is not allowed; write the value out where it is used")
        tag = getattr(event, "tag", None)
        if tag is not None:
            self._report.refuse(place, f"tag {shown(tag)} is not allowed; write the plain value")


def _line(event: yaml.Event) -> int:
    mark = event.start_mark
    return mark.line + 1 if mark else 1


def _joined(path: str, name: str) -> str:
    part = name if _PLAIN_KEY.fullmatch(name) else shown(name)
    return f"{path}.{part}" if path else part


def _kind(event: yaml.ScalarEvent) -> Kind:
    if event.style:
        return Kind.QUOTED
    resolved = _RESOLVER.resolve(yaml.ScalarNode, event.value, (True, False))  # type: ignore[no-untyped-call]  # a stub
    tag = str(resolved).rpartition(":")[2]
    if tag != "str":
        return _KINDS.get(tag, Kind.OTHER)
    return Kind.FLOAT if _NUMBER_IN_YAML_1_2.fullmatch(event.value) else Kind.WORD
