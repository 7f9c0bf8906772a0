"""Experiments: a report of one that lays its arms beside each other, for the command line and the admin plane."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime

from gateway.domain import money
from gateway.domain.arms import HIGH, MEDIAN, ArmRow, ArmTally, total
from gateway.reporting.reports import Period, ReportSource, UnknownName

COLUMNS = (
    "requests",
    "images",
    "route_usd",
    "usd_per_image",
    "seconds_mean",
    "seconds_p50",
    "seconds_p95",
    "failed_share",
    "elsewhere_share",
)


@dataclass(frozen=True, slots=True)
class ArmsReport:
    """The arms of an experiment, control first. `trimmed` is as in a report of spend."""

    experiment: str
    period: Period
    rows: list[ArmRow]
    trimmed: datetime | None = None

    columns = COLUMNS
    by = ("arm",)

    def table(self) -> list[tuple[tuple[str, ...], dict[str, object]]]:
        """Return each arm and its figures by column; None is not known."""
        return [((row.arm,), _figures(row)) for row in self.rows]

    def sums(self) -> dict[str, object]:
        """Return the figures of all arms together."""
        return _figures(total(self.rows))

    def as_json(self) -> dict[str, object]:
        """Return the report as JSON values, money as decimal strings of USD, shares from 0 to 1."""
        since, until = self.period.since, self.period.until
        return {
            "experiment": self.experiment,
            "since": since.isoformat() if since else None,
            "until": until.isoformat() if until else None,
            "rows": [{"arm": arm, **figures} for (arm,), figures in self.table()],
            "total": self.sums(),
            **({"trimmed_until": self.trimmed.isoformat()} if self.trimmed else {}),
        }


def _figures(row: ArmRow) -> dict[str, object]:
    dear = row.cost_per_image
    values = (
        row.requests,
        row.images,
        money.format_usd(row.cost),
        None if dear is None else money.format_usd(dear),
        _rounded(row.mean),
        _rounded(row.percentile(MEDIAN)),
        _rounded(row.percentile(HIGH)),
        _share(row.failed, row.requests),
        _share(row.elsewhere, row.requests),
    )
    return dict(zip(COLUMNS, values, strict=True))


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None


async def arms_report(source: ReportSource, experiment: str, *, known: Collection[str] = ()) -> ArmsReport:
    """Return what was booked in the arms of an experiment; errors as for other reports.

    UnknownName if it is neither among the experiments `known` nor anywhere on record.
    """
    tally = ArmTally(experiment)
    async for entry in source.entries():
        tally.add(entry)
    rows = tally.rows()
    if not rows and experiment not in known:
        names = {*known, *await _on_record(source)}
        if experiment not in names:
            where = "the policy or the records" if known else "the records"
            raise UnknownName("experiment", experiment, names, where)
    return ArmsReport(experiment, source.period, rows, await source.lacking())


async def _on_record(source: ReportSource) -> set[str]:
    """The names of all experiments that an entry is of, whenever it was booked and whoever's it is."""
    entries = replace(source, period=Period(None), project=None).entries()
    return {str(entry.about["experiment"]) async for entry in entries if entry.about.get("experiment")}
