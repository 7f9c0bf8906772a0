"""Parameters: the fields of a provider's own body, and what each is taken from."""

from __future__ import annotations

import math
import re
from itertools import pairwise

from gateway.config.documents import Items, Kind, Node, Table, Value
from gateway.config.fields import Fields, as_table
from gateway.config.problems import Report, shown
from gateway.config.schema import PARAMETER
from gateway.config.values import described, listed, one_of, text, truth, whole
from gateway.domain.job import Operation, parse_ratio
from gateway.domain.profile import ImageForm, Parameter, Source

OPERATIONS = listed(one_of((Operation.GENERATE, Operation.EDIT)))

_SOURCES = tuple(source for source in Source if source is not Source.CONSTANT)
_SAID = tuple(source for source in _SOURCES if source is not Source.FIELD)
_IMAGES = frozenset({Source.IMAGES, Source.IMAGE, Source.MASK})
_NAME = re.compile(r"[A-Za-z0-9_\[\]-]{1,64}(\.[A-Za-z0-9_\[\]-]{1,64}){0,7}", re.ASCII)
_ONLY = {
    "among": {Source.RATIO},
    "tiers": {Source.RESOLUTION},
    "number": {Source.IMAGE},
    "field": {Source.FIELD},
    "value": {Source.FIELD, Source.CONSTANT},
    "form": _IMAGES,
    "wrap": _IMAGES,
    "beside": _IMAGES,
}
"""Keys that mean something only where the value is taken from one of these."""
_NEEDS = {
    Source.RATIO: ("among", "the ratios of which the nearest is sent"),
    Source.RESOLUTION: ("tiers", "the names of resolutions and how many pixels each is for"),
    Source.FIELD: ("field", "the client's field"),
}


def read_parameters(fields: Fields) -> tuple[Parameter, ...] | None:
    """Read the list under `parameters`; None if it is left out."""
    if fields.node("parameters") is None:
        return None
    found: list[Parameter] = []
    for node in fields.items("parameters"):
        parameter = _read(Fields(node, PARAMETER, fields.report), fields.report)
        if parameter is None:
            continue
        clash = next(
            (each for each in found if _collide(each.name, parameter.name) and not _apart(each, parameter)), None
        )
        if clash is not None:
            both = f"{shown(parameter.name)} and {shown(clash.name)}"
            fields.report.problem(node.place, f"{both} cannot both be sent")
        found.append(parameter)
    told = any(Source.PROMPT in (each.source, each.client_field) for each in found)
    if not told and len(found) == len(fields.items("parameters")):  # one that is wrong may have been it
        fields.report.warn(fields.at("parameters"), "none of them is the prompt, so the provider never gets it")
    return tuple(found)


def _read(fields: Fields, report: Report) -> Parameter | None:
    name = fields.required("name", _name)
    source = _source(fields, name, report)
    if name is None or source is None:
        return None
    for key, sources in _ONLY.items():
        if fields.node(key) is not None and source not in sources:
            report.problem(fields.at(key), f"means nothing where the value is taken from {source}")
    needed = _NEEDS.get(source)
    if needed and fields.lacks(needed[0]):
        report.problem(fields.place, f"{needed[0]} is missing: {needed[1]}")
    if fields.node("closed") is not None and fields.node("values") is None:
        report.problem(fields.at("closed"), "means nothing without values: the words that are taken")
    value = fields.node("value")
    beside = fields.node("beside")
    return Parameter(
        name=name,
        source=source,
        operations=frozenset(Operation(each) for each in fields.read("operations", OPERATIONS) or ()),
        masked=fields.read("masked", truth),
        models=fields.read("models", listed(text)) or (),
        values={word: other for word, node in fields.entries("values") if (other := text(node, report))},
        closed=fields.read("closed", truth) or False,
        among=fields.read("among", listed(_ratio)) or (),
        tiers=_tiers(fields, report),
        number=fields.read("number", whole(0, 100)) or 0,
        client_field=fields.read("field", text) or "",
        constant=None if value is None else _plain(value, report),
        form=ImageForm(fields.read("form", one_of(ImageForm)) or ImageForm.DATA_URL),
        wrap=fields.read("wrap", _name) or "",
        beside={key: _plain(node, report) for key, node in (as_table(beside, report).nodes.items() if beside else ())},
    )


def _source(fields: Fields, name: str | None, report: Report) -> Source | None:
    """What a parameter is taken from: said, or told by its other keys or its own name."""
    if fields.node("from") is not None:
        word = fields.read("from", one_of(_SOURCES))
        return None if word is None else Source(word)
    if fields.node("field") is not None:
        return Source.FIELD
    if fields.node("value") is not None:
        return Source.CONSTANT
    if name in _SOURCES:
        return Source(name)
    if name is not None:
        report.problem(fields.place, f"from is missing: one of {', '.join(_SAID)}; or field, or value")
    return None


def _collide(one: str, other: str) -> bool:
    """Tell whether two names are the same, or one lies within the other."""
    return one == other or one.startswith(f"{other}.") or other.startswith(f"{one}.")


def _apart(one: Parameter, other: Parameter) -> bool:
    """Tell whether no job sends both: for they are for other operations or models, or for a mask and for none."""
    if one.masked is not None and other.masked is not None and one.masked != other.masked:
        return True
    pairs: tuple[tuple[frozenset[str], frozenset[str]], ...] = (
        (frozenset(one.operations), frozenset(other.operations)),
        (frozenset(one.models), frozenset(other.models)),
    )
    return any(mine and theirs and not mine & theirs for mine, theirs in pairs)


def _name(node: Node, report: Report) -> str | None:
    value = text(node, report)
    if value is not None and not _NAME.fullmatch(value):
        report.problem(node.place, f"{shown(value)} is not a name such as image_size.width")
        return None
    return value


def _ratio(node: Node, report: Report) -> str | None:
    value = text(node, report)
    if value is not None and parse_ratio(value) is None:
        report.problem(node.place, f'{shown(value)} is not a ratio such as "3:2"')
        return None
    return value


def _tiers(fields: Fields, report: Report) -> tuple[tuple[str, int | None], ...]:
    found = tuple((tier, _pixels(node, report)) for tier, node in fields.entries("tiers"))
    if not found and isinstance(fields.node("tiers"), Table):
        report.problem(fields.at("tiers"), "needs at least one tier, such as {2K: any}")
    for (_, smaller), (tier, larger) in pairwise(found):
        if smaller is None or (larger is not None and larger <= smaller):
            report.problem(fields.at("tiers"), f"{shown(tier)} could never be sent: write the smallest first, any last")
    return found


def _pixels(node: Node, report: Report) -> int | None:
    if isinstance(node, Value) and node.text == "any":
        return None
    if not isinstance(node, Value) or node.kind is not Kind.INT:
        report.problem(node.place, f"must be a number of pixels, or any, not {described(node)}")
        return None
    return whole(1, 10**9)(node, report)


def _plain(node: Node, report: Report) -> object:
    """Return a value as JSON has it, to be passed on as it is; None, reported, for what JSON does not have."""
    if isinstance(node, Table):
        return {name: _plain(value, report) for name, value in node.nodes.items()}
    if isinstance(node, Items):
        return [_plain(value, report) for value in node.nodes]
    if node.kind in {Kind.QUOTED, Kind.WORD}:
        return node.text
    if node.kind is Kind.BOOL and node.text in {"true", "false"}:
        return node.text == "true"
    if node.kind in {Kind.INT, Kind.FLOAT}:
        return _number(node.text, node, report)
    report.problem(node.place, f"must be text, a number, true or false, not {described(node)}")
    return None


def _number(digits: str, node: Node, report: Report) -> object:
    try:
        value = float(digits)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        report.problem(node.place, f"must be a number in plain digits, not {described(node)}")
        return None
    return int(value) if value == int(value) and "." not in digits else value
