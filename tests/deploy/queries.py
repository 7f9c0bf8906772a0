"""What is asked of Prometheus: the expressions of panels, variables and rules, and the metrics and labels in them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
DASHBOARDS = sorted((DEPLOY / "grafana").glob("*.json"))
RULE_FILES = [DEPLOY / "prometheus" / name for name in ("recording.yaml", "alerts.yaml")]
VARIABLES = {"$__rate_interval": "30s", "$job": ".*", "$project": ".*", "$route": ".*"}


def dashboard(path: Path) -> dict[str, Any]:
    """A dashboard as Grafana reads it."""
    read: dict[str, Any] = json.loads(path.read_text())
    return read


def panels(path: Path) -> list[dict[str, Any]]:
    """Its panels that ask something."""
    return [panel for panel in dashboard(path)["panels"] if panel["type"] != "row"]


def asked(expression: str) -> str:
    """A panel's expression with its variables put in."""
    for name, value in VARIABLES.items():
        expression = expression.replace(name, value)
    return expression


def panel_queries() -> Iterator[tuple[str, str]]:
    """Every panel's expressions, by its title."""
    for path in DASHBOARDS:
        for panel in panels(path):
            for target in panel["targets"]:
                yield f"{path.stem}: {panel['title']}", target["expr"]


def rules(path: Path) -> list[dict[str, Any]]:
    """The rules of a file."""
    return [rule for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]]


def alerts() -> dict[str, dict[str, Any]]:
    """Every alert by its name."""
    return {rule["alert"]: rule for rule in rules(RULE_FILES[1])}


def recorded() -> set[str]:
    """Every name that a recording rule makes."""
    return {rule["record"] for rule in rules(RULE_FILES[0])}


def expressions() -> list[tuple[str, str]]:
    """Everything that is asked, by who asks."""
    of_rules = [(rule.get("alert") or rule["record"], rule["expr"]) for path in RULE_FILES for rule in rules(path)]
    return [*panel_queries(), *of_rules]


def names(expression: str) -> set[str]:
    """The metrics and recorded series of the gateway in an expression."""
    return set(re.findall(r"\bimage_gateway[\w:]*", expression))


def labels(expression: str) -> set[str]:
    """The labels that an expression selects or groups by."""
    selected = re.findall(r"[{,]\s*(\w+)\s*(?:=~|!~|!=|=)", expression)
    grouped = re.findall(r"\b(?:by|on|without|ignoring)\s*\(([^)]*)\)", expression)
    return {*selected, *(word for group in grouped for word in re.findall(r"\w+", group))}
