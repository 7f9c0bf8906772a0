"""A JSON Schema of policy files, for editors: the closed keys of `schema`, the kinds of `kinds`, the reference's words.

`python -m gateway.config.json_schema docs/policy.md > docs/policy.schema.json` writes it.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from gateway.config.json_refs import Schema, definition
from gateway.config.kinds import KINDS, REQUIRED
from gateway.config.schema import EVERY_MAP

_SECTION = re.compile(r"^### `([^`]+)`\n(.*?)(?=^#|\Z)", re.MULTILINE | re.DOTALL)
_ROW = re.compile(r"^\| `(\w+)` \|(.*)\|$", re.MULTILINE)
_TOP = "the top level"


def json_schema(reference: str) -> Schema:
    """Return the schema; `reference` is the text of docs/policy.md, whose tables describe each key."""
    words = _descriptions(reference)
    definitions = {definition(name): _object(name, words) for name in EVERY_MAP if name != _TOP}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Image Gateway policy",
        "description": "One YAML file of a policy. What only all of them can tell is left to `image-gateway check`.",
        **_object(_TOP, words),
        "$defs": definitions,
    }


def _object(name: str, words: Mapping[tuple[str, str], str]) -> Schema:
    properties: Schema = {}
    required = REQUIRED.get(name, ())
    for key in EVERY_MAP[name].known:
        kind = KINDS[name][key] if key in required else _or_null(KINDS[name][key])
        told = words.get((name, key))
        properties[key] = {**kind, "description": told} if told else kind
    found: Schema = {"type": ["object", "null"], "properties": properties, "additionalProperties": False}
    return {**found, "required": list(required)} if required else found


def _or_null(kind: Schema) -> Schema:
    """Let a key be null, which counts as left out; a definition that is referred to lets it by itself."""
    if isinstance(words := kind.get("enum"), list):
        return {**kind, "enum": [*words, None]}
    if isinstance(choices := kind.get("anyOf"), list):
        return {**kind, "anyOf": [*choices, {"type": "null"}]}
    return {**kind, "type": [kind["type"], "null"]} if "type" in kind else kind


def _descriptions(reference: str) -> dict[tuple[str, str], str]:
    found: dict[tuple[str, str], str] = {}
    for name, text in _SECTION.findall(reference):
        for key, cells in _ROW.findall(text):
            told = ". ".join(_plain(cell) for cell in _told(cells) if cell.strip())
            if told:
                found[name, key] = told
    return found


def _told(cells: str) -> list[str]:
    """Return what a row says of its key: the meaning first, then the default."""
    first, _, rest = cells.partition(" | ")
    return [rest, f"default: {first.strip()}"] if rest.strip() and first.strip() else [rest or first]


def _plain(cell: str) -> str:
    return re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", cell).strip().removesuffix(", below").strip()


def main() -> None:
    """Write the schema to standard output; the only argument is the path of the reference."""
    schema = json_schema(Path(sys.argv[1]).read_text(encoding="utf-8"))
    sys.stdout.write(json.dumps(schema, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
