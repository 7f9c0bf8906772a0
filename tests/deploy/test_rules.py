"""Rules, dashboards and documents name what the gateway counts, and nothing else; promtool finds them sound."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import httpx
import pytest
import yaml

from gateway.observe.metric_table import METRICS, Kind
from gateway.ports.wrapped import IN_ANSWER
from gateway.providers.outcome import of_garbage, of_status, of_transport
from tests.deploy.queries import (
    DASHBOARDS,
    DEPLOY,
    ROOT,
    RULE_FILES,
    alerts,
    asked,
    dashboard,
    expressions,
    labels,
    names,
    panels,
    recorded,
)

TABLE = {metric.full_name: metric for metric in METRICS}
OF_PROMETHEUS = {"job", "instance", "le"}
GRID = 24
RULES_TEST = Path(__file__).with_name("rules_test.yaml")


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run promtool; skips where there is none."""
    if shutil.which("promtool") is None:
        pytest.skip("promtool is needed")
    return subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False)


def base(name: str) -> str:
    """The metric that a histogram's series belongs to."""
    stem = re.sub(r"_(?:bucket|sum|count)$", "", name)
    return stem if stem in TABLE and TABLE[stem].kind is Kind.HISTOGRAM else name


def test_promtool_accepts_rules_and_configuration(tmp_path: Path) -> None:
    """Rules and the scrape configuration are what Prometheus takes."""
    assert (done := promtool("check", "rules", *RULE_FILES)).returncode == 0, done.stdout + done.stderr
    token = tmp_path / "token"
    token.write_text("x")
    for path in (*RULE_FILES, DEPLOY / "prometheus" / "prometheus.yaml"):
        (tmp_path / path.name).write_text(path.read_text().replace("/run/secrets/admin_token", str(token)))
    done = promtool("check", "config", tmp_path / "prometheus.yaml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_fires_when_it_should_and_not_when_all_is_well() -> None:
    """Promtool plays series to the rules: one in which each alert fires, and one in which none does."""
    done = promtool("test", "rules", RULES_TEST)
    assert done.returncode == 0, done.stdout + done.stderr
    cases = [case for test in yaml.safe_load(RULES_TEST.read_text())["tests"] for case in test["alert_rule_test"]]
    for fires in (True, False):
        assert {case["alertname"] for case in cases if bool(case["exp_alerts"]) is fires} == alerts().keys()


HELD = """
evaluation_interval: 1m
tests:
  - interval: 1m
    input_series:
%s
    promql_expr_test:
      - {expr: '%s', eval_time: 1m, exp_samples: [{labels: "{}", value: %s}]}
"""


@pytest.mark.parametrize(
    ("budgets", "held"),
    [
        ([("everything", "day", 2), ("everything", "month", 3), ("project:team", "day", 2)], 3),
        ([("project:team", "day", 2), ("project:team", "month", 3), ("project:other", "month", 1)], 4),
    ],
    ids=["a common budget", "projects alone"],
)
def test_what_is_held_is_counted_once(tmp_path: Path, budgets: list[tuple[str, str, int]], held: int) -> None:
    """However many windows and gateways tell of it; what was held before a day began is on the month's window alone."""
    board = dashboard(DEPLOY / "grafana" / "overview.json")
    [panel] = [panel for panel in board["panels"] if panel.get("title") == "Held"]
    series = [
        f'      - {{series: \'image_gateway_budget_held_usd{{job="g", instance="{instance}", '
        f'scope="{scope}", window="{window}"}}\', values: \'{usd}x9\'}}'
        for instance in "ab"
        for scope, window, usd in budgets
    ]
    case = tmp_path / "held.yaml"
    case.write_text(HELD % ("\n".join(series), asked(panel["targets"][0]["expr"]), held))
    done = promtool("test", "rules", case)
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_is_asked_is_counted() -> None:
    """Each metric and label in a panel or rule is one of the gateway's, or recorded by a rule."""
    for who, expression in expressions():
        used = names(expression)
        known = {base(name) for name in used}
        assert known <= TABLE.keys() | recorded(), who
        if not used & recorded():
            allowed = {label for name in known for label in TABLE[name].labels} | OF_PROMETHEUS
            assert labels(expression) <= allowed, who


def test_what_is_counted_is_shown() -> None:
    """Each metric stands on a dashboard or in a rule, and in the documents with the same labels."""
    shown = {base(name) for _, expression in expressions() for name in names(expression)}
    text = (ROOT / "docs" / "metrics.md").read_text()
    documented = {
        name: tuple(filter(None, listed.split(",")))
        for name, listed in re.findall(r"^\| `(image_gateway_\w+)(?:\{([\w,]+)\})?` \|", text, re.MULTILINE)
    }
    assert TABLE.keys() - shown == set()
    assert documented == {name: metric.labels for name, metric in TABLE.items()}
    assert set(re.findall(r"^\| `(image_gateway:[\w:]+)` \|", text, re.MULTILINE)) == recorded()


def test_reasons_in_runbooks_are_given_by_the_code() -> None:
    """Of failed calls: those of the rules by which answers and broken connections are judged."""
    spent = b'{"error": {"code": "insufficient_quota"}}'
    failures = [of_status(status, {}, body) for status in range(300, 600) for body in (b"", spent)]
    failures += [of_transport(error("")) for error in (httpx.ConnectError, httpx.ReadTimeout, httpx.ReadError)]
    given = {failure.reason for failure in [*failures, of_garbage("")]} | {IN_ANSWER}
    text = (ROOT / "docs" / "runbooks.md").read_text()
    for name in ("ImageGatewayRouteEjected", "ImageGatewayUpstreamFails"):
        section = text.partition(f"## {name}\n")[2].partition("\n## ")[0]
        named = set(re.findall(r"`([a-z]+(?:_\w+)?)`", section)) - {"image_gateway_upstream_errors_total"}
        assert named - {"status", "code"} <= given, name
        assert "account" in named


def test_each_alert_has_its_runbook() -> None:
    """Each alert leads to a section of its own, and each section belongs to an alert."""
    sections = re.findall(r"^## (\w+)$", (ROOT / "docs" / "runbooks.md").read_text(), re.MULTILINE)
    assert sorted(sections) == sorted(alerts())
    for name, alert in alerts().items():
        assert alert["annotations"]["runbook_url"] == f"docs/runbooks.md#{name.lower()}"
        assert alert["labels"]["severity"] in {"critical", "warning", "info"}
        assert {"summary", "description"} < alert["annotations"].keys()


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_dashboards_are_whole(path: Path) -> None:
    """Panels have ids of their own, lie on the grid without overlap, and ask the data source that the reader chose."""
    board = dashboard(path)
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)
    assert board["uid"]
    cells: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        own = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not own & cells, panel["title"]
        assert max(x for x, _ in own) < GRID
        cells |= own
    chosen = {"type": "prometheus", "uid": "${datasource}"}
    declared = {variable["name"] for variable in board["templating"]["list"]}
    for panel in panels(path):
        assert panel["datasource"] == chosen
        assert all(target["datasource"] == chosen and target["expr"] for target in panel["targets"])
        assert panel["fieldConfig"]["defaults"]["unit"]
        used = {word for target in panel["targets"] for word in re.findall(r"\$(\w+)", target["expr"])}
        assert used <= declared | {"__rate_interval"}, panel["title"]


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_grafana_s_own_types_read_the_dashboards(path: Path) -> None:
    """Every field is one that Grafana's published types know, of the type that they want."""
    models = pytest.importorskip("grafana_foundation_sdk.models.dashboard")
    encoder = pytest.importorskip("grafana_foundation_sdk.cog.encoder")
    board = dashboard(path)
    for variable in board["templating"]["list"]:
        variable.pop("definition", None)  # what the query editor shows; the types leave it out
    for annotation in board["annotations"]["list"]:
        annotation.pop("titleFormat", None)
    read = json.loads(encoder.JSONEncoder().encode(models.Dashboard.from_json(board)))
    assert _lost(board, read, "") == []


def _lost(ours: object, theirs: object, where: str) -> list[str]:
    """What of ours is not in theirs, or otherwise."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        kept = {key: value for key, value in ours.items() if value is not None}
        return [line for key, value in kept.items() for line in _lost(value, theirs.get(key), f"{where}/{key}")]
    if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        pairs = enumerate(zip(ours, theirs, strict=True))
        return [line for number, (mine, other) in pairs for line in _lost(mine, other, f"{where}/{number}")]
    return [] if ours == theirs else [f"{where}: {ours!r} became {theirs!r}"]
