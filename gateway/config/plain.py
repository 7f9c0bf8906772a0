"""Plain values: what stands in YAML, as JSON has it, for what is passed on to others as it is."""

from __future__ import annotations

import math

from gateway.config.documents import Items, Kind, Node, Table
from gateway.config.problems import Report
from gateway.config.values import described


def plain(node: Node, report: Report) -> object:
    """Return texts, whole and decimal numbers, truth values, lists and maps; None, reported, for anything else."""
    if isinstance(node, Table):
        return {name: plain(value, report) for name, value in node.nodes.items()}
    if isinstance(node, Items):
        return [plain(value, report) for value in node.nodes]
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
