"""Replaying: a period of recorded work under another policy, added up beside what it cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from gateway.domain import money
from gateway.domain.period import day_start
from gateway.domain.policy import Policy
from gateway.domain.route import NOTHING, Views
from gateway.domain.spend import is_booking, is_shadow
from gateway.ledger.entries import Entry
from gateway.ledger.store import Store
from gateway.reporting.policy_replay import PolicyReplay
from gateway.reporting.recorded import recorded_entries
from gateway.reporting.replay_costs import Fate, Verdict
from gateway.reporting.reports import Period, ReportSource, UnknownName, window_start

NOTES = (
    "Shadow requests are left out, as `spend` leaves them out: they stay what they were.",
    "Requests that were denied left no entry, so they are not played again.",
    "Rates, requests in flight and the health of routes are taken as they were.",
)
"""What a reader must know of any replay."""

_LEFT = "paths that went through, and conversations without usage on record or a price of their text model"


@dataclass(slots=True)
class ReplayRow:
    """One project's requests of one job type. Costs are nano-USD by view; the counts are of bookings."""

    project: str
    job_type: str
    requests: int = 0
    denied: int = 0
    degraded_before: int = 0
    degraded: int = 0
    moved: int = 0
    repriced: int = 0
    estimated: int = 0
    left: int = 0
    recorded: Views = NOTHING
    replayed: Views = NOTHING

    def add(self, entry: Entry, verdict: Verdict) -> None:
        """Add an entry and what it comes to."""
        self.recorded += entry.cost
        self.replayed += verdict.cost
        if not is_booking(entry):
            return
        self.requests += 1
        self.denied += verdict.fate is Fate.DENIED
        self.moved += verdict.fate is Fate.MOVED
        self.repriced += verdict.fate is Fate.REPRICED
        self.degraded_before += bool(entry.facts.get("degraded"))
        self.degraded += bool(verdict.degraded)
        self.estimated += verdict.estimated
        self.left += verdict.fate is Fate.LEFT

    def estimates(self) -> str:
        """Say how many costs are estimates."""
        words = "cost is an estimate" if self.requests == 1 else "costs are estimates"
        return f"{self.estimated} of {self.requests} {words}: another picture or model, or an answer that got lost."

    def left_out(self) -> str:
        """Say how many could not be played."""
        return f"{self.left} of {self.requests} cannot be played and cost what they cost: {_LEFT}."

    def as_json(self) -> dict[str, object]:
        """Return the figures, money as decimal strings of USD."""
        counts = ("requests", "denied", "degraded_before", "degraded", "moved", "repriced", "estimated", "left")
        told: dict[str, object] = {name: getattr(self, name) for name in counts}
        for view in ("official", "route", "internal"):
            recorded, replayed = getattr(self.recorded, view), getattr(self.replayed, view)
            told[f"recorded_{view}_usd"] = money.format_usd(recorded)
            told[f"replayed_{view}_usd"] = money.format_usd(replayed)
        told["difference_usd"] = money.format_usd(self.replayed.route - self.recorded.route)
        return told


@dataclass(slots=True)
class Replay:
    """What came of it. `moves` are counted by project, job type, route then and route now, `denials` by code.

    `hours` are what each hour (UTC) cost then and would now, nano-USD in the route view. `trimmed` is when the last
    entry was booked that was asked for and is no longer there.
    """

    digest: str
    period: Period
    lines: dict[tuple[str, str], ReplayRow] = field(default_factory=dict)
    moves: Counter[tuple[str, ...]] = field(default_factory=Counter)
    denials: Counter[tuple[str, ...]] = field(default_factory=Counter)
    hours: dict[datetime, tuple[int, int]] = field(default_factory=dict)
    total: ReplayRow = field(default_factory=lambda: ReplayRow("", ""))
    trimmed: datetime | None = None

    def add(self, entry: Entry, verdict: Verdict) -> None:
        """Add an entry and what it comes to."""
        key = (entry.project or "-", entry.job_type or "-")
        for line in (self.lines.setdefault(key, ReplayRow(*key)), self.total):
            line.add(entry, verdict)
        hour = entry.time.replace(minute=0, second=0, microsecond=0)
        then, now = self.hours.get(hour, (0, 0))
        self.hours[hour] = (then + entry.cost.route, now + verdict.cost.route)
        if is_booking(entry) and verdict.fate is Fate.MOVED:
            self.moves[*key, entry.route, verdict.route] += 1
        if is_booking(entry) and verdict.fate is Fate.DENIED:
            self.denials[*key, verdict.reason] += 1

    @property
    def rows(self) -> list[ReplayRow]:
        """The lines, dearest first."""
        return sorted(self.lines.values(), key=lambda line: (-line.recorded.route, line.project, line.job_type))

    @property
    def days(self) -> dict[datetime, tuple[int, int]]:
        """What each day cost then and would now, by its beginning (UTC)."""
        days: dict[datetime, tuple[int, int]] = {}
        for hour, (then, now) in self.hours.items():
            day = day_start(hour)
            before, after = days.get(day, (0, 0))
            days[day] = (before + then, after + now)
        return days

    def as_json(self) -> dict[str, object]:
        """Return all of it, money as decimal strings of USD."""
        since, until = self.period.since, self.period.until
        return {
            "object": "gateway.replay",
            "policy": self.digest,
            "since": since.isoformat() if since else None,
            "until": until.isoformat() if until else None,
            "rows": [{"project": row.project, "job_type": row.job_type, **row.as_json()} for row in self.rows],
            "total": self.total.as_json(),
            "moves": _counted(self.moves, ("project", "job_type", "from", "to")),
            "denials": _counted(self.denials, ("project", "job_type", "code")),
            "days": [
                {
                    "day": day.date().isoformat(),
                    "recorded_usd": money.format_usd(then),
                    "replayed_usd": money.format_usd(now),
                }
                for day, (then, now) in sorted(self.days.items())
            ],
            "notes": list(NOTES),
            **({"trimmed_until": self.trimmed.isoformat()} if self.trimmed else {}),
        }


async def replay(
    store: Store,
    realm: str,
    policy: Policy,
    *,
    period: Period,
    project: str | None = None,
    export: Sequence[Path] = (),
) -> Replay:
    """Play a period's entries under a policy; `project` limits what is shown, not what budgets feel.

    Entries since the beginning of the calendar windows that the period begins in are read too, for what budgets had
    spent. LedgerUnavailable, and ExportError as `recorded_entries`; UnknownName
    if neither the policy nor what was read knows the project.
    """
    projects = set(policy.projects)
    policy_replay, found = PolicyReplay(policy), Replay(policy.digest, period)
    start = _reading_from(policy, period)
    async for entry in recorded_entries(store, realm, since=start, until=period.until, export=export):
        projects.add(entry.project)
        if is_shadow(entry):
            continue
        if period.since is not None and entry.time < period.since:
            policy_replay.remember(entry)
            continue
        verdict = policy_replay.judge(entry)
        if project is None or entry.project == project:
            found.add(entry, verdict)
    if project is not None and project not in projects:
        raise UnknownName("project", project, projects - {""}, "the policy or the records of this period")
    found.trimmed = await ReportSource(store, realm, Period(start), export=export).lacking()
    return found


def _reading_from(policy: Policy, period: Period) -> datetime | None:
    """When the longest calendar window began that the period begins in; None for all time."""
    if period.since is None:
        return None
    budgets = [*policy.budgets, *(budget for project in policy.projects.values() for budget in project.budgets)]
    starts = [window_start(budget.window, period.since) for budget in budgets]
    return None if None in starts else min([period.since, *(start for start in starts if start is not None)])


def _counted(counts: Mapping[tuple[str, ...], int], names: Sequence[str]) -> list[dict[str, object]]:
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [{**dict(zip(names, key, strict=True)), "requests": count} for key, count in ordered]
