"""Sizes by ratio and resolution: what a model takes in place of pixels, and how a route narrows it."""

from __future__ import annotations

from gateway.config.documents import Kind, Node, Value
from gateway.config.fields import Fields
from gateway.config.problems import Report, did_you_mean, shown
from gateway.config.values import described, listed, whole
from gateway.domain.job import parse_ratio
from gateway.domain.route import SizeRule
from gateway.domain.tiers import Tiers

_MOST = 10**9
_BOUNDS = ("multiple", "max_edge", "min_pixels", "max_pixels", "max_ratio")


def _ratio_text(node: Node, report: Report) -> str | None:
    """A ratio of width to height in quotes, `"3:2"`."""
    if isinstance(node, Value) and node.kind is Kind.QUOTED and parse_ratio(node.text):
        return node.text
    report.problem(node.place, f'must be a ratio of width to height in quotes, such as "3:2", not {described(node)}')
    return None


def has_tiers(rule: Fields) -> bool:
    """Tell whether sizes are given by ratio and resolution."""
    return rule.node("ratios") is not None or rule.node("resolutions") is not None


def read_tiers(rule: Fields, report: Report) -> SizeRule:
    """Read a model's ratios and resolutions; what is missing is reported."""
    _no_bounds(rule, report)
    ratios = rule.required("ratios", listed(_ratio_text)) or ()
    resolutions = _resolutions(rule, report)
    if rule.lacks("resolutions"):
        report.problem(rule.place, "resolutions is missing: give each with its pixels, as {1K: 1048576}")
    return _rule(ratios, resolutions)


def narrow_tiers(rule: Fields, model: SizeRule, report: Report) -> SizeRule:
    """Read a route's ratios and resolutions, those of its model where it gives none; others are reported."""
    if model.tiers is None:
        report.problem(rule.place, "the model makes sizes in pixels; give some of them, or bounds")
        return model
    _no_bounds(rule, report)
    ratios = rule.read("ratios", listed(_ratio_text)) or model.tiers.ratios
    for each in ratios:
        if each not in model.tiers.ratios:
            hint = did_you_mean(each, model.tiers.ratios)
            report.problem(rule.at("ratios"), f"a route may only narrow what its model can do: it has no {each}{hint}")
    known, resolutions = dict(model.tiers.resolutions), _resolutions(rule, report)
    for name, pixels in resolutions:
        if known.get(name) != pixels:
            have = ", ".join(f"{other}: {most}" for other, most in model.tiers.resolutions)
            report.problem(rule.at("resolutions"), f"{shown(name)} is not as the model has it: {have}")
    return _rule(tuple(each for each in model.tiers.ratios if each in ratios), resolutions or model.tiers.resolutions)


def _no_bounds(rule: Fields, report: Report) -> None:
    for key in _BOUNDS:
        if rule.node(key) is not None:
            report.problem(rule.at(key), "belongs to sizes in pixels; beside it stand no ratios and resolutions")


def _resolutions(rule: Fields, report: Report) -> tuple[tuple[str, int], ...]:
    found = [(name, whole(1, _MOST)(node, report)) for name, node in rule.entries("resolutions")]
    return tuple(sorted(((name, pixels) for name, pixels in found if pixels), key=lambda each: each[1]))


def _rule(ratios: tuple[str, ...], resolutions: tuple[tuple[str, int], ...]) -> SizeRule:
    if not (ratios and resolutions):
        return SizeRule()
    return SizeRule(min_pixels=1, max_pixels=resolutions[-1][1], tiers=Tiers(ratios, resolutions))
