"""Lines of a log against the schema that is published for them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

from jsonschema_rs import Draft202012Validator

DOCS = Path(__file__).parents[2] / "docs"


@lru_cache(1)
def schema() -> dict[str, Any]:
    """The published schema."""
    read: dict[str, Any] = json.loads((DOCS / "logs.schema.json").read_text())
    return read


@lru_cache(1)
def _validator() -> Draft202012Validator:
    return Draft202012Validator(schema())


def of_events() -> dict[str, dict[str, Any]]:
    """What the schema says of each event that has fields of its own, by its phrase."""
    named = [each for each in schema()["oneOf"] if "const" in each["properties"]["event"]]
    return {each["properties"]["event"]["const"]: each for each in named}


def wrong(lines: Iterable[str]) -> list[str]:
    """Say of each JSON line that is not valid why; lines that are no JSON objects are a command's own words."""
    found = (line for line in lines if line.startswith("{"))
    return [f"{error.message}: {line}" for line in found for error in _validator().iter_errors(json.loads(line))]
