"""Just enough of JSON Schema to see whether a policy file fits the one for editors; unknown keywords are an error."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from gateway.config.documents import Items, Kind, Node, Table, parse_document
from gateway.config.problems import Report

_SILENT = {"$schema", "$defs", "title", "description"}
_TYPES: Mapping[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "boolean": (bool,),
    "null": (type(None),),
}


def plain(path: Path) -> object:
    """Return a policy file as an editor sees it: maps, lists, text, whole numbers, true and false."""
    document = parse_document(path.read_bytes(), str(path), Report())
    assert document is not None, path
    return _plain(document)


def _plain(node: Node) -> object:
    if isinstance(node, Table):
        return {key: _plain(each) for key, each in node.nodes.items()}
    if isinstance(node, Items):
        return [_plain(each) for each in node.nodes]
    if node.kind is Kind.INT:
        return int(node.text)
    if node.kind is Kind.BOOL:
        return node.text == "true"
    if node.kind is Kind.FLOAT:
        return float(node.text)
    return None if node.kind is Kind.NULL else node.text


def misfits(value: object, schema: Mapping[str, Any], root: Mapping[str, Any], where: str = "$") -> list[str]:
    """Return what is wrong with a value, each as `path: keyword`; nothing if it fits."""
    return [f"{where}{path}: {keyword}" for path, keyword in _misfits(value, schema, root)]


def _misfits(value: object, schema: Mapping[str, Any], root: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for keyword, wanted in schema.items():
        if keyword in _SILENT:
            continue
        if keyword == "$ref":
            yield from _misfits(value, root["$defs"][wanted.removeprefix("#/$defs/")], root)
        elif keyword == "anyOf":
            if all(any(_misfits(value, each, root)) for each in wanted):
                yield "", keyword
        elif isinstance(value, dict) and keyword in _OF_MAPS:
            yield from _of_map(value, keyword, schema, root)
        elif isinstance(value, list) and keyword == "items":
            for number, each in enumerate(value):
                yield from ((f"[{number}]{path}", found) for path, found in _misfits(each, wanted, root))
        elif not _fits(value, keyword, wanted):
            yield "", keyword


_OF_MAPS = {"properties", "additionalProperties", "propertyNames", "required"}


def _of_map(
    value: dict[str, object], keyword: str, schema: Mapping[str, Any], root: Mapping[str, Any]
) -> Iterator[tuple[str, str]]:
    wanted, properties = schema[keyword], schema.get("properties", {})
    for key, each in value.items():
        inner: Iterator[tuple[str, str]] = iter(())
        if keyword == "properties" and key in wanted:
            inner = _misfits(each, wanted[key], root)
        elif keyword == "additionalProperties" and key not in properties:
            inner = iter([("", keyword)]) if wanted is False else _misfits(each, wanted, root)
        elif keyword == "propertyNames":
            inner = _misfits(key, wanted, root)
        yield from ((f".{key}{path}", found) for path, found in inner)
    if keyword == "required":
        yield from ((f".{key}", keyword) for key in wanted if value.get(key) is None)


def _fits(value: object, keyword: str, wanted: Any) -> bool:
    checks: Mapping[str, Callable[[], bool]] = {
        "pattern": lambda: not isinstance(value, str) or re.search(wanted, value) is not None,
        "minimum": lambda: not isinstance(value, int) or value >= wanted,
        "maximum": lambda: not isinstance(value, int) or value <= wanted,
        "minItems": lambda: not isinstance(value, list) or len(value) >= wanted,
        "uniqueItems": lambda: not isinstance(value, list) or len(set(map(repr, value))) == len(value),
        "enum": lambda: value in wanted,
        "const": lambda: value == wanted,
        "type": lambda: any(_is(value, name) for name in ([wanted] if isinstance(wanted, str) else wanted)),
        **dict.fromkeys((*_OF_MAPS, "items"), lambda: True),
    }
    return checks[keyword]()


def _is(value: object, name: str) -> bool:
    return isinstance(value, _TYPES[name]) and not (name == "integer" and isinstance(value, bool))
