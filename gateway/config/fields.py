"""A map with closed keys, read key by key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeVar

from gateway.config.documents import Items, Kind, Node, Table, Value
from gateway.config.problems import Place, Report, did_you_mean, nearest
from gateway.config.schema import Keys
from gateway.config.values import Reader, described

T = TypeVar("T")


class Fields:
    """Reports keys that the map does not take as soon as it is made; a key set to null counts as left out."""

    def __init__(self, node: Node, keys: Keys, report: Report, place: Place | None = None) -> None:
        self.place = place or node.place
        self.report = report
        self._table = as_table(node, report, keys.example)
        if report.is_refused(node.place):
            report.mute(self.place)
        unknown = {name: at for name, at in self._table.keys.items() if name not in keys.known}
        self._meant = {nearest(name, keys.known) for name in unknown if name not in keys.elsewhere}
        for name, name_place in unknown.items():
            elsewhere = keys.elsewhere.get(name)
            report.problem(name_place, elsewhere or "unknown key" + did_you_mean(name, keys.known))

    def node(self, key: str) -> Node | None:
        """Return what stands under a key, if anything does."""
        node = self._table.nodes.get(key)
        return None if node is None or is_null(node) else node

    def at(self, key: str) -> Place:
        """Return the place of a key, or of the map where the key is left out."""
        return self._table.keys.get(key, self.place)

    def lacks(self, *keys: str) -> bool:
        """Tell whether none of these keys is there, and none was tried to be given under a misspelt name."""
        return not self._meant.intersection(keys) and all(
            self.node(key) is None and not self.report.is_refused(self.at(key)) for key in keys
        )

    def is_whole(self, key: str) -> bool:
        """Tell whether all that is said under a key was read: it was not misspelt, and no part of it was refused."""
        node = self._table.nodes.get(key)
        refused = self.report.is_refused(self.place) or (node is not None and self.report.is_refused(node.place))
        return key not in self._meant and not refused

    def read(self, key: str, reader: Reader[T]) -> T | None:
        """Read an optional value; None if it is left out or wrong."""
        node = self.node(key)
        return None if node is None else reader(node, self.report)

    def required(self, key: str, reader: Reader[T], hint: str = "") -> T | None:
        """Read a value that must be there; None if it is missing or wrong, which is reported."""
        if self.lacks(key):
            self.report.problem(self.place, f"{key} is missing{hint}")
        return self.read(key, reader)

    def within(self, key: str, keys: Keys) -> Fields | None:
        """Return the map under a key, if there is one."""
        node = self.node(key)
        return None if node is None else Fields(node, keys, self.report, self.at(key))

    def items(self, key: str) -> tuple[Node, ...]:
        """Return the nodes of the list under a key; none if it is left out."""
        node = self.node(key)
        return () if node is None else as_items(node, self.report)

    def entries(self, key: str) -> Iterator[tuple[str, Node]]:
        """Yield the entries of the map with free keys under a key."""
        node = self.node(key)
        table: Mapping[str, Node] = {} if node is None else as_table(node, self.report).nodes
        yield from table.items()


def is_null(node: Node) -> bool:
    """Tell whether nothing was written."""
    return isinstance(node, Value) and node.kind is Kind.NULL


def as_table(node: Node, report: Report, example: str = "") -> Table:
    """Return the node as a map; an empty one, reported, if it is something else. `example` is how one is written."""
    if isinstance(node, Table):
        return node
    if not is_null(node):
        report.refuse(node.place, f"must be a map, {f'as {example}, ' if example else ''}not {described(node)}")
    return Table(node.place, {}, {})


def as_items(node: Node, report: Report) -> tuple[Node, ...]:
    """Return the nodes of a list; none, reported, if it is something else."""
    if isinstance(node, Items):
        return node.nodes
    remedy = "; put it in brackets: [{…}]" if isinstance(node, Table) else ""
    report.refuse(node.place, f"must be a list, not {described(node)}{remedy}")
    return ()
