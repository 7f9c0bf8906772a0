"""`image-gateway explain`: what a policy would do with a request, and why. Calls nothing, spends nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import IO, Any

import click
from click.core import ParameterSource
from rich.console import JustifyMethod
from rich.table import Table

from gateway.cli.options import Fatal, example, format_option, policy_option, store_options
from gateway.cli.running import check_project, checked_policy, clear_errors, connected, store_to_read
from gateway.cli.tables import show
from gateway.config.problems import shown
from gateway.domain.denial import span
from gateway.domain.errors import GatewayError
from gateway.ledger.redis_ledger import RedisLedger
from gateway.process.today import today
from gateway.routing.dry_run import PAPER_KEY, Decided, Sketch, Undecided, dry_run
from gateway.routing.explanation import explanation, explanation_now, refusal
from gateway.web.json_body import read_json
from gateway.web.limits import BodyLimits

Document = Mapping[str, Any]

_FOUND = {
    "header": "named by X-Gateway-Job-Type",
    "model": "named as the model",
    "key": "the key's own",
    "match": "its match rule holds",
    "default": "the project's default",
}


class _Day(click.DateTime):
    """A day, such as 2026-12-01."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return its midnight; BadParameter for anything else."""
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            return self.fail(f"{value!r} is not a day such as 2026-12-01", param, ctx)


@click.command(
    short_help="Show which route a request would take, and why.",
    epilog=example(
        "explain request.json --policy policy/ --project shop",
        """explain - --policy policy/ --project shop <<< '{"prompt": "a red bicycle"}'""",
    ),
)
@click.argument("request", type=click.File("rb"))
@policy_option
@click.option("--project", required=True, help="Whose request it is.")
@click.option("--job-type", default=None, help="As X-Gateway-Job-Type.")
@click.option("--lane", default=None, help="As X-Gateway-Lane.")
@click.option("--max-cost", default=None, help="As X-Gateway-Max-Cost, USD.")
@click.option("--no-degrade", is_flag=True, help="As X-Gateway-Degrade: never.")
@click.option("--key", default=PAPER_KEY, show_default=True, help="The key's id, for budgets and arms that go by key.")
@click.option("--key-job-type", default=None, help="The job type that the key was made for.")
@click.option("--date", "day", default=None, type=_Day(["%Y-%m-%d"]), help="On another day than today (UTC).")
@click.option("--live", is_flag=True, help="Ask the store where budgets stand; a --store given here does too.")
@format_option("table", "json")
@store_options
@click.pass_context
def explain(
    context: click.Context,
    /,
    request: IO[bytes],
    policy: Path,
    day: datetime | None,
    form: str,
    live: bool,
    store: str,
    data: Path,
    realm: str,
    **envelope: Any,
) -> None:
    """Show which route a request would take, at what price, and why not the others.

    REQUEST is a file with the JSON body that a client would send, `-` reads it from stdin; with input images it is an
    edit.
    """
    on = day.date() if day else today()
    live = live or context.get_parameter_source("store") is ParameterSource.COMMANDLINE
    if live and on != today():
        message = "not with --live or --store: budgets stand where they stand today, not on another day"
        raise click.BadParameter(message, param_hint="'--date'")
    rules = checked_policy(policy)
    check_project(envelope["project"], rules)
    try:
        decided = dry_run(asyncio.run(_sketch(request.read(), **envelope)), rules, on)
    except Undecided as undecided:
        told = {"project": envelope["project"], **refusal(undecided)}
    else:
        told = _told(decided, store, data, realm) if live else explanation(decided)
    click.echo(json.dumps(told, indent=2)) if form == "json" else _print(told, on)


async def _sketch(
    body: bytes,
    *,
    project: str,
    job_type: str | None,
    lane: str | None,
    max_cost: str | None,
    no_degrade: bool,
    key: str,
    key_job_type: str | None,
) -> Sketch:
    async def chunks() -> AsyncIterator[bytes]:
        yield body

    try:
        read = await read_json(chunks(), BodyLimits())
    except GatewayError as error:
        raise Fatal(error.message) from error
    await read.aclose()
    given = {
        "x-gateway-job-type": job_type,
        "x-gateway-lane": lane,
        "x-gateway-max-cost": max_cost,
        "x-gateway-degrade": "never" if no_degrade else None,
    }
    headers = {name: value for name, value in given.items() if value is not None}
    return Sketch(project, read.fields, headers, images=read.images, mask=read.mask, key=key, key_job_type=key_job_type)


def _told(decided: Decided, store: str, data: Path, realm: str) -> dict[str, object]:
    async def ask(url: str) -> dict[str, object]:
        async with connected(url, realm, writes=False) as connection:
            return await explanation_now(decided, RedisLedger(connection, realm).balances)

    with clear_errors(), store_to_read(store, data) as url:
        return asyncio.run(ask(url))


def _print(told: Document, day: date) -> None:
    click.echo(f"project {told['project']}, {day}")
    if told["job_type"]:
        found = _FOUND.get(told.get("job_type_from", ""), "")
        order = f"; routes {told['order']}" if "order" in told else ""
        click.echo(f"job type {told['job_type']}{f' ({found})' if found else ''}{order}")
    if told.get("task"):
        url = told["task"]["callback_url"]
        click.echo(f"answered later, by a task{f'; its end is posted to {shown(url)}' if url else ''}")
    if told.get("experiment"):
        click.echo(f"experiment {told['experiment']['name']}, arm {told['experiment']['arm']}")
    if told["route"]:
        chosen = told["candidates"][told["chosen"]]
        click.echo(f"→ {told['route']}: {chosen['quality']}, {chosen['size']}, n={chosen['n']}, {_price(chosen)}")
    if told.get("denied"):
        denied = told["denied"]
        click.echo(f"✗ {denied['status']} {denied['code']}: {denied['message']}")
    if told["candidates"]:
        _print_candidates(told)
    if told["passed_over"]:
        show(_passed_over(told["passed_over"]))
    for gone in told.get("retirements", ()):
        click.echo(_retirement(gone))


def _print_candidates(told: Document) -> None:
    click.echo()
    show(_candidates(told["candidates"]))
    first = told["candidates"][told["chosen"] or 0]
    if first["holds_on"]:
        show(_rules(first, told["live"]))
    for each in told["candidates"]:
        for reason in each.get("because", ()):
            click.echo(f"{each['route']} ({each['quality']}, {each['size']}): {reason}")


def _retirement(gone: Document) -> str:
    retires, then = ("retired", "") if gone["retired"] else ("retires", "then ")
    serves = f"{gone['served_by']} serves instead" if gone["served_by"] else "nothing serves in its place"
    return f"{gone['route']}: {gone['model']} {retires} on {gone['retires']}; {then}{serves}"


def _price(candidate: Document) -> str:
    expected = f", probably ${candidate['cost_expected']}" if candidate["cost_expected"] else ""
    return f"at most ${candidate['cost_estimate']['route']}{expected}"


def _candidates(candidates: Sequence[Document]) -> Table:
    rows = [_cells(each) for each in candidates]
    table = Table(title="Routes in the order to try, USD", title_justify="left")
    same = {name for name in ("official", "internal") if all(row[name] == row["at most"] for row in rows)}
    filled = [name for name in rows[0] if name in ("route", "at most") or any(row[name] for row in rows)]
    told = [name for name in filled if name not in same]
    for name in told:
        # What is a figure or short stays whole; names wrap where the terminal is narrow.
        justify: JustifyMethod = "right" if name in ("at most", "probably", "official", "internal") else "left"
        table.add_column(name, justify=justify, no_wrap=name not in ("route", "model", "changed", "budget used", "now"))
    for row in rows:
        table.add_row(*(row[name] for name in told))
    return table


def _cells(candidate: Document) -> dict[str, str]:
    cost, used = candidate["cost_estimate"], candidate.get("budget_used")
    changed = [f"{name}={value}" for name, value in candidate["degraded"].items()]
    changed += [f"for {candidate['replaces']}"] if candidate["replaces"] else []
    changed += [f"{candidate['calls']} calls"] if candidate["calls"] > 1 else []
    return {
        "route": candidate["route"],
        "model": candidate["model"],
        "quality": candidate["quality"],
        "size": candidate["size"],
        "n": str(candidate["n"]),
        "changed": ", ".join(changed),
        "at most": cost["route"],
        "probably": candidate["cost_expected"] or "",
        "official": cost["official"],
        "internal": cost["internal"],
        "budget used": "" if used is None else f"{used['from']} to {used['below'] or 'the end'}",
        "now": candidate.get("now", ""),
    }


def _rules(candidate: Document, live: bool) -> Table:
    table = Table(title=f"What {candidate['route']} is held on", title_justify="left")
    columns = ("for", "limit", "takes", *(("used", "held") if live else ()))
    for name in columns:
        table.add_column(name, justify="left" if name == "for" else "right", no_wrap=name != "for")
    for rule in candidate["holds_on"]:
        money = "limit_usd" in rule
        if money:
            per = "in total" if rule["window"] == "total" else f"per {rule['window']}"
            what = f"{rule['scope']} {per}" + ("" if rule["view"] == "route" else f" ({rule['view']})")
        else:
            per = f" per {span(rule['seconds'])}" if rule["seconds"] else " at once"
            what = f"{rule['scope']}: {rule['counted']}{per}"
        names = [f"{name}_usd" if money else name for name in columns[1:]]
        table.add_row(what, *(f"{'$' if money else ''}{rule[name]}" for name in names))
    return table


def _passed_over(passed_over: Sequence[Document]) -> Table:
    table = Table(title="Passed over", title_justify="left")
    table.add_column("route")
    table.add_column("because", overflow="fold")
    for each in passed_over:
        table.add_row(each["route"], each["reason"])
    return table
