"""What a model can do, and how a route narrows it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from fractions import Fraction
from typing import TypeVar

from gateway.config.documents import Items, Node, Value
from gateway.config.fields import Fields
from gateway.config.problems import Report, did_you_mean
from gateway.config.resolutions import has_tiers, narrow_tiers, read_tiers
from gateway.config.schema import CAPABILITIES, SIZES
from gateway.config.values import Reader, listed, name, one_of, ratio, size, truth, whole
from gateway.domain.job import OF_MODELS, Operation, Size
from gateway.domain.route import Capabilities, SizeRule

T = TypeVar("T")

_OPERATION = one_of(operation.value for operation in OF_MODELS)
_MOST_N = 100
_MOST_EDGE = 65_536
_MOST = 10**9
_PROMPT_CHARS = 32_000
_WIDENS = "a route may only narrow what its model can do: "


def _operation(node: Node, report: Report) -> str | None:
    """A word of `operations`; the one that its vendor retired is answered the same, whatever a route could do."""
    if isinstance(node, Value) and node.text == Operation.VARIATION:
        gone = "variations were retired by their vendor and are answered with 410: leave the word out, and list edit"
        report.problem(node.place, gone)
        return None
    return _OPERATION(node, report)


_OPERATIONS = listed(_operation)


def read_capabilities(owner: Fields, report: Report) -> Capabilities:
    """Read a model's `capabilities`; what is missing is reported and stands in as nothing."""
    fields = owner.within("capabilities", CAPABILITIES)
    if fields is None:
        if owner.lacks("capabilities"):
            report.problem(owner.place, "capabilities is missing")
        return Capabilities(
            frozenset(),
            1,
            0,
            mask=False,
            transparent=False,
            stream=False,
            quality=(),
            output_formats=(),
            sizes=SizeRule(),
        )
    operations = fields.required("operations", _OPERATIONS) or ()
    return Capabilities(
        operations=frozenset(Operation(each) for each in operations),
        n=fields.required("n", whole(1, _MOST_N)) or 1,
        references=fields.read("references", whole(0, _MOST_N)) or 0,
        mask=fields.read("mask", truth) or False,
        transparent=fields.read("transparent", truth) or False,
        stream=fields.read("stream", truth) or False,
        quality=fields.required("quality", listed(name)) or (),
        output_formats=fields.required("output_formats", listed(name)) or (),
        sizes=_read_sizes(fields, report),
        prompt_chars=fields.read("prompt_chars", whole(1, _MOST)) or _PROMPT_CHARS,
    )


def _read_sizes(fields: Fields, report: Report) -> SizeRule:
    node = fields.node("sizes")
    if node is None:
        if fields.lacks("sizes"):
            report.problem(fields.place, "sizes is missing")
        return SizeRule()
    _refuse_one(node, report)
    if isinstance(node, Items):
        return SizeRule(fixed=_parsed(fields.read("sizes", listed(size))))
    rule = Fields(node, SIZES, report)
    if has_tiers(rule):
        return read_tiers(rule, report)
    found = SizeRule(
        multiple=rule.read("multiple", whole(1, _MOST_EDGE)) or 1,
        max_edge=rule.required("max_edge", whole(1, _MOST_EDGE)) or _MOST_EDGE,
        min_pixels=rule.read("min_pixels", whole(1, _MOST)) or 1,
        max_pixels=rule.required("max_pixels", whole(1, _MOST)) or _MOST,
        max_ratio=rule.read("max_ratio", ratio) or Fraction(3),
    )
    if found.min_pixels > found.max_pixels:
        report.problem(rule.at("min_pixels"), "is more than max_pixels: no size would do")
    return found


def _refuse_one(node: Node, report: Report) -> None:
    if isinstance(node, Value) and Size.parse(node.text):
        report.refuse(node.place, f"must be a list of sizes, as [{node.text}], or bounds")


def _parsed(sizes: Sequence[str] | None) -> tuple[Size, ...]:
    return tuple(parsed for each in sizes or () if (parsed := Size.parse(each)))


def narrow(owner: Fields, model: Capabilities, report: Report) -> Capabilities:
    """Read a route's `capabilities` on top of its model's; what would widen them is reported."""
    fields = owner.within("capabilities", CAPABILITIES)
    if fields is None:
        return model
    operations = [operation.value for operation in OF_MODELS if operation in model.operations]
    return Capabilities(
        operations=frozenset(Operation(each) for each in _subset(fields, "operations", _OPERATIONS, operations)),
        n=_at_most(fields, "n", 1, model.n),
        references=_at_most(fields, "references", 0, model.references),
        mask=_not_beyond(fields, "mask", allowed=model.mask),
        transparent=_not_beyond(fields, "transparent", allowed=model.transparent),
        stream=_not_beyond(fields, "stream", allowed=model.stream),
        quality=_subset(fields, "quality", listed(name), model.quality),
        output_formats=_subset(fields, "output_formats", listed(name), model.output_formats),
        sizes=_narrow_sizes(fields, model.sizes, report),
        prompt_chars=_at_most(fields, "prompt_chars", 1, model.prompt_chars),
    )


def _subset(fields: Fields, key: str, reader: Reader[tuple[str, ...]], allowed: Sequence[str]) -> tuple[str, ...]:
    chosen = fields.read(key, reader)
    if chosen is None:
        return tuple(allowed)
    wider = [each for each in chosen if each not in allowed]
    for each in wider:
        fields.report.problem(fields.at(key), f"{_WIDENS}it has no {each}{did_you_mean(each, allowed)}")
    # What is wrong narrows nothing, or others would be told that what they name cannot be done.
    return tuple(each for each in allowed if wider or each in chosen)


def _at_most(fields: Fields, key: str, low: int, model: int) -> int:
    value = fields.read(key, whole(low, _MOST))
    if value is not None and value > model:
        fields.report.problem(fields.at(key), f"{_WIDENS}{value} is more than {model}")
    return model if value is None else value


def _not_beyond(fields: Fields, key: str, *, allowed: bool) -> bool:
    value = fields.read(key, truth)
    if value and not allowed:
        fields.report.problem(fields.at(key), f"{_WIDENS}it has no {key}")
    return allowed if value is None else value


def _narrow_sizes(fields: Fields, model: SizeRule, report: Report) -> SizeRule:
    node = fields.node("sizes")
    if node is None:
        return model
    _refuse_one(node, report)
    if isinstance(node, Items):
        fixed = _parsed(fields.read("sizes", listed(size)))
        for refusal in filter(None, map(model.refusal, fixed)):
            report.problem(node.place, _WIDENS + refusal)
        return dataclasses.replace(model, fixed=fixed)
    if model.fixed:
        report.problem(node.place, "the model makes a fixed list of sizes; give a list of some of them")
        return model
    rule = Fields(node, SIZES, report)
    if has_tiers(rule) or model.tiers is not None:
        return narrow_tiers(rule, model, report)
    return _narrow_bounds(rule, model, report)


def _narrow_bounds(rule: Fields, model: SizeRule, report: Report) -> SizeRule:
    multiple = rule.read("multiple", whole(1, _MOST_EDGE)) or model.multiple
    if multiple % model.multiple:
        report.problem(rule.at("multiple"), f"{_WIDENS}{multiple} is not a multiple of {model.multiple}")
    min_pixels = rule.read("min_pixels", whole(1, _MOST)) or model.min_pixels
    if min_pixels < model.min_pixels:
        report.problem(rule.at("min_pixels"), f"{_WIDENS}{min_pixels} is less than {model.min_pixels}")
    max_ratio = rule.read("max_ratio", ratio) or model.max_ratio
    if max_ratio > model.max_ratio:
        report.problem(rule.at("max_ratio"), f"{_WIDENS}{max_ratio} is more than {model.max_ratio}")
    max_pixels = _at_most(rule, "max_pixels", 1, model.max_pixels)
    if min_pixels > max_pixels:
        report.problem(rule.place, "min_pixels is more than max_pixels: no size would do")
    return SizeRule(
        multiple=multiple,
        max_edge=_at_most(rule, "max_edge", 1, model.max_edge),
        min_pixels=min_pixels,
        max_pixels=max_pixels,
        max_ratio=max_ratio,
    )
