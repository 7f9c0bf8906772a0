"""Reading one parameter at a time, with OpenAI's complaints."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from gateway.sandbox.personas.openai import errors

Fields = Mapping[str, object]

_JSON_NAMES: Mapping[type, str] = {
    bool: "a boolean",
    int: "an integer",
    float: "a decimal",
    str: "a string",
    list: "an array",
    dict: "an object",
}


def json_name(value: object) -> str:
    """Name a value's JSON type as OpenAI's messages do."""
    return _JSON_NAMES.get(type(value), "null")


def text(fields: Fields, name: str) -> str | None:
    """Read a text; None if it is absent or null."""
    value = fields.get(name)
    if value is not None and not isinstance(value, str):
        raise errors.wrong_type(name, "a string", json_name(value))
    return value


def word(fields: Fields, name: str, allowed: Collection[str]) -> str | None:
    """Read one of the allowed words; None if it is absent or null."""
    value = text(fields, name)
    if value is not None and value not in allowed:
        raise errors.not_among(name, value, allowed)
    return value


def integer(fields: Fields, name: str, minimum: int, maximum: int) -> int | None:
    """Read a whole number within bounds; None if it is absent or null."""
    value = fields.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise errors.wrong_type(name, "an integer", json_name(value))
    if value < minimum:
        raise errors.below(name, minimum, value)
    if value > maximum:
        raise errors.above(name, maximum, value)
    return value


def flag(fields: Fields, name: str) -> bool:
    """Read a boolean; False if it is absent or null."""
    value = fields.get(name)
    if value is not None and not isinstance(value, bool):
        raise errors.wrong_type(name, "a boolean", json_name(value))
    return bool(value)
