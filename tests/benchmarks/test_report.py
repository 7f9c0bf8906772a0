"""What a run leaves behind: tables, goals, JSON, and its place in the README."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.goals import GOALS
from benchmarks.profiling import shares
from benchmarks.report import (
    BEGIN,
    END,
    Goal,
    Section,
    document,
    goals_section,
    number,
    replace_newest,
    table,
    write_json,
)
from benchmarks.wrk import parsed


def test_a_table_has_words_to_the_left_and_figures_to_the_right() -> None:
    """Tables are Markdown, and a stray bar makes no further column."""
    assert table(("", "p50"), [("a|b", "1 ms")]) == "|  | p50 |\n|---|--:|\n| a/b | 1 ms |"


def test_a_row_of_another_length_is_an_error() -> None:
    """A row that lost a cell is not printed under the wrong heads."""
    with pytest.raises(ValueError, match="1 cells under 2 heads"):
        table(("", "p50"), [("a",)])


@pytest.mark.parametrize(
    ("value", "written"), [(0, "0"), (0.254, "0.25"), (1.5, "1.50"), (7.25, "7.2"), (75.4, "75"), (12345.6, "12,346")]
)
def test_numbers_have_as_many_digits_as_they_mean(value: float, written: str) -> None:
    """Small numbers keep digits, large ones lose them."""
    assert number(value) == written


def test_goals_are_judged_by_what_was_measured() -> None:
    """A goal is reached, missed, or was not measured; a division by nothing is not measured either."""
    goals = [
        Goal("at least 3", lambda f: f["rate"] / f["other"], 3, "times", least=True),
        Goal("at most 3", lambda f: f["rate"] / f["other"], 3),
        Goal("absent", lambda f: f["absent"], 1),
        Goal("nothing", lambda f: f["rate"] / f["zero"], 1),
    ]
    shown = goals_section(goals, [Section("", figures={"rate": 8.0}), Section("", figures={"other": 2.0, "zero": 0})])
    assert [row[1:] for row in shown.rows] == [
        ("4.0 times", "yes"),
        ("4.0", "no"),
        ("", "not measured"),
        ("", "not measured"),
    ]


def test_goals_without_figures_are_not_measured() -> None:
    """No goal of the suite is reached by a run that measured nothing."""
    assert {row[2] for row in goals_section(GOALS, []).rows} == {"not measured"}


def test_the_newest_run_replaces_the_one_before(tmp_path: Path) -> None:
    """Only what stands between the markers changes, however often."""
    readme = tmp_path / "README.md"
    readme.write_text(f"# Before\n\n{BEGIN}\nold\n{END}\n\nafter\n")
    shown = Section("Speed", ("", "p50"), [("a", "1 ms")], ["A note."])
    for when in ("one day", "another"):
        replace_newest(readme, document({"cores": 2, "wrk": ""}, when, [shown]))
    text = readme.read_text()
    assert text.startswith(f"# Before\n\n{BEGIN}\nRun of another: cores 2.\n\n### Speed\n\n|  | p50 |")
    assert text.endswith(f"A note.\n{END}\n\nafter\n")
    assert "one day" not in text
    readme.write_text("nothing here")
    with pytest.raises(ValueError, match="no <!--"):
        replace_newest(readme, "text")


def test_a_run_can_be_read_by_programs(tmp_path: Path) -> None:
    """JSON keeps machine, tables and the figures behind them."""
    path = tmp_path / "results" / "day.json"
    write_json(path, {"cores": 2}, "now", [Section("Speed", figures={"rate": 1.5})])
    told = json.loads(path.read_text())
    assert told["machine"] == {"cores": 2}
    assert told["sections"][0]["figures"] == {"rate": 1.5}


def test_what_wrk_tells_is_read() -> None:
    """Goodput leaves failures out, times are seconds, and a run without an answer is an error."""
    load = parsed("Running 2s test\n\nRESULT 1000 5000000 2000000 1500 9000 100\n")
    assert (load.rate, load.volume, load.p50, load.p99, load.failed) == (450, 2_500_000, 0.0015, 0.009, 100)
    with pytest.raises(RuntimeError, match="nothing was answered"):
        parsed("RESULT 0 0 2000000 0 0 64")


def test_samples_are_counted_by_function() -> None:
    """A function is charged for samples at the top of a stack, and once for each stack that it stands in."""
    own, within = shares(["main (a.py:1);run (b.py:2);run (b.py:9) 3", "main (a.py:1) 2"])
    assert own == {"run (b.py)": 3, "main (a.py)": 2}
    assert within == {"run (b.py)": 3, "main (a.py)": 5}
