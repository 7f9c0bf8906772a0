"""Tables in Markdown, JSON, and the place in README.md where the newest run stands."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

Measure = Callable[[Mapping[str, float]], float]
"""Works a value out of all figures; KeyError if one was not measured."""

BEGIN, END = "<!-- newest run: begin -->", "<!-- newest run: end -->"


@dataclass
class Section:
    """A table of results: its words, its rows as they are shown, and the figures behind them by name."""

    title: str
    head: tuple[str, ...] = ()
    rows: list[tuple[str, ...]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)

    def markdown(self) -> str:
        """Return title, table and notes."""
        parts = [f"### {self.title}"]
        if self.rows:
            parts.append(table(self.head, self.rows))
        return "\n\n".join([*parts, *self.notes])


@dataclass(frozen=True)
class Goal:
    """Something to reach: in words, the measure that shows it, and what that must be."""

    words: str
    measure: Measure
    bound: float
    unit: str = ""
    least: bool = False
    """Whether the bound is the least; else it is the most."""

    def row(self, figures: Mapping[str, float]) -> tuple[str, str, str]:
        """Return the goal, what was measured, and whether that is enough."""
        try:
            value = self.measure(figures)
        except (KeyError, ZeroDivisionError):
            return self.words, "", "not measured"
        met = value >= self.bound if self.least else value <= self.bound
        return self.words, f"{number(value)} {self.unit}".strip(), "yes" if met else "no"


def number(value: float) -> str:
    """Write a number with three digits or so: 0.25, 1.5, 75, 12,345."""
    if value == 0:
        return "0"
    return f"{value:,.0f}" if abs(value) >= 20 else f"{value:.1f}" if abs(value) >= 3 else f"{value:.2f}"


def milliseconds(seconds: float) -> str:
    """Write seconds as milliseconds."""
    return f"{number(seconds * 1000)} ms"


def megabytes(count: float) -> str:
    """Write bytes as megabytes of a million."""
    return f"{number(count / 1e6)} MB"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table, words to the left and figures to the right; ValueError for a row of another length."""
    lines = [f"| {' | '.join(head)} |", f"|---|{'--:|' * (len(head) - 1)}"]
    for row in rows:
        if len(row) != len(head):
            raise ValueError(f"{len(row)} cells under {len(head)} heads: {row}")
        lines.append(f"| {' | '.join(cell.replace('|', '/') for cell in row)} |")
    return "\n".join(lines)


def goals_section(goals: Iterable[Goal], sections: Iterable[Section]) -> Section:
    """Return the table of goals, measured by the figures of all sections."""
    figures = {name: value for section in sections for name, value in section.figures.items()}
    rows: list[tuple[str, ...]] = [goal.row(figures) for goal in goals]
    return Section("Goals", ("goal", "measured", "reached"), rows)


def document(machine: Mapping[str, object], when: str, sections: Iterable[Section]) -> str:
    """Return a whole run in Markdown, below a heading of the second rank."""
    words = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in machine.items() if value != "")
    return "\n\n".join([f"Run of {when}: {words}.", *(section.markdown() for section in sections)])


def write_json(path: Path, machine: Mapping[str, object], when: str, sections: Iterable[Section]) -> None:
    """Write a run where programs can read it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    told = {"when": when, "machine": dict(machine), "sections": [asdict(section) for section in sections]}
    path.write_text(json.dumps(told, indent=1) + "\n")


def replace_newest(readme: Path, text: str) -> None:
    """Put a run between the markers of a README; ValueError if it has none, or not in order."""
    before, begin, rest = readme.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{readme}: no {BEGIN} before {END}")
    readme.write_text(f"{before}{BEGIN}\n{text.strip()}\n{END}{after}")
