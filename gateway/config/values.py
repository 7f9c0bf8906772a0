"""Readers of plain values: each takes a node, reports what is wrong with it, and returns the value or None."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import date
from fractions import Fraction
from typing import TypeVar

from gateway.config.documents import Items, Kind, Node, Table, Value
from gateway.config.problems import Report, did_you_mean, shown
from gateway.domain.job import AUTO, Size, parse_ratio
from gateway.domain.money import (
    MAX_MICRO,
    NANO_PER_MICRO,
    OutOfBounds,
    parse_multiplier,
    parse_rate_per_million,
    parse_usd,
)

T = TypeVar("T")

PRODUCTION = "production"
LANES = (PRODUCTION, "testing")
Reader = Callable[[Node, Report], T | None]

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,99}", re.ASCII)
"""Names reach ledger keys and metric labels, so nothing that could part them (`|`, `{`, a line break) is allowed."""
NAME_RULE = "a name is 1 to 100 of A-Z a-z 0-9 . _ / - and starts with a letter or digit"

KEY_ID = "key_[A-Za-z0-9_]{1,96}"
"""What the public id of a key looks like, as a regular expression."""
_KEY_ID = re.compile(KEY_ID, re.ASCII)
_PERCENT = re.compile(r"([0-9]{1,4})(?:\.([0-9]{1,2}))?%", re.ASCII)
_WHOLE = 10_000
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
_MOST_DIGITS = 18
_WEB_PAGE = re.compile(r"https?://[^\s/?#][^\s]*", re.IGNORECASE)


def described(node: Node) -> str:
    """Say what a node is, for messages about what it should have been."""
    if isinstance(node, Table):
        return "a map"
    return "a list" if isinstance(node, Items) else f"{node.kind} ({shown(node.text)})"


def text(node: Node, report: Report) -> str | None:
    """Text, quoted or not, that YAML reads as nothing else; variables have no place in it."""
    if not isinstance(node, Value):
        report.problem(node.place, f"must be text, not {described(node)}")
    elif node.kind not in {Kind.WORD, Kind.QUOTED}:
        report.problem(
            node.place, f"must be text, but YAML reads {shown(node.text)} as {node.kind}; write it in quotes"
        )
    elif not node.text.strip():
        report.problem(node.place, "is empty")
    elif "${" in node.text:
        report.problem(node.place, "variables are read in api_key, base_url and callbacks.secrets only")
    else:
        return node.text
    return None


def matching(rule: Callable[[str], object], what: str, hint: Callable[[str], str] = lambda _: "") -> Reader[str]:
    """Return a reader of text that a rule holds for; `what` says what such a text is, `hint` what may be meant.

    Quotes are advised only where they are all that is missing.
    """

    def read(node: Node, report: Report) -> str | None:
        by_yaml = isinstance(node, Value) and node.kind not in {Kind.WORD, Kind.QUOTED} and not rule(node.text)
        value = node.text if by_yaml and isinstance(node, Value) else text(node, report)
        if value is not None and not rule(value):
            report.problem(node.place, f"{shown(value)} is not {what}{hint(value)}")
            return None
        return value

    return read


name = matching(NAME.fullmatch, f"a name: {NAME_RULE}")
"""A name as the sections' own names are."""
header_name = matching(re.compile(r"[A-Za-z0-9-]{1,64}", re.ASCII).fullmatch, "the name of a header")


def key_id(node: Node, report: Report) -> str | None:
    """The public id of a key; nothing else is shown in the message, for it may be the key itself."""
    value = text(node, report)
    if value is not None and not _KEY_ID.fullmatch(value):
        listed_as = "must be a key's id as `image-gateway keys list` shows it (key_…)"
        report.problem(node.place, f"{listed_as}, not its name or the key itself")
        return None
    return value


def web_page(node: Node, report: Report) -> str | None:
    """A URL, `https://…`, that a reader may open."""
    value = text(node, report)
    if value is not None and not _WEB_PAGE.fullmatch(value):
        report.problem(node.place, f"must be a URL such as https://example.com/pricing, not {shown(value)}")
        return None
    return value


def truth(node: Node, report: Report) -> bool | None:
    """Only `true` or `false`; not `yes`, `on` or their opposites."""
    if isinstance(node, Value) and node.kind is Kind.BOOL and node.text in {"true", "false"}:
        return node.text == "true"
    written = node.text if isinstance(node, Value) and node.kind is Kind.BOOL else described(node)
    report.problem(node.place, f"must be true or false, not {written}")
    return None


def whole(low: int, high: int) -> Reader[int]:
    """Return a reader of whole numbers from `low` to `high`, in plain decimal digits."""

    def read(node: Node, report: Report) -> int | None:
        digits = node.text if isinstance(node, Value) and node.kind in {Kind.INT, Kind.FLOAT} else ""
        plain = digits.isascii() and digits.isdigit() and len(digits) <= _MOST_DIGITS
        if not plain or str(int(digits)) != digits:
            report.problem(node.place, f"must be a whole number in plain digits, not {described(node)}")
        elif not low <= int(digits) <= high:
            report.problem(node.place, f"must be from {low} to {high}, not {digits}")
        else:
            return int(digits)
        return None

    return read


def day(node: Node, report: Report) -> date | None:
    """A date, `YYYY-MM-DD`, no time."""
    if isinstance(node, Value) and node.kind in {Kind.DATE, Kind.QUOTED} and _DAY.fullmatch(node.text):
        try:
            return date.fromisoformat(node.text)
        except ValueError:
            report.problem(node.place, f"{shown(node.text)} is not in the calendar")
            return None
    timed = isinstance(node, Value) and node.kind is Kind.DATE
    wanted = "must be a date without a time" if timed else "must be a date"
    report.problem(node.place, f"{wanted} such as 2026-11-20, not {described(node)}")
    return None


def percent(node: Node, report: Report) -> int | None:
    """A share above nothing, `80%` or `2.5%`, at most two decimals, in basis points."""
    match = _PERCENT.fullmatch(node.text) if isinstance(node, Value) else None
    if match is None:
        number = node.text if isinstance(node, Value) and node.kind in {Kind.INT, Kind.FLOAT} else "80"
        hint = f"{number[:10]}%" if number.isdigit() else "80% or 2.5%"
        reason = _percent_problem(node.text) if isinstance(node, Value) else None
        report.problem(node.place, reason or f"must be a percentage such as {hint}, not {described(node)}")
        return None
    points = int(match[1]) * 100 + int((match[2] or "").ljust(2, "0"))
    if not 0 < points <= _WHOLE:
        report.problem(node.place, f"must be above 0% and at most 100%, not {match[0]}")
        return None
    return points


def _percent_problem(text: str) -> str | None:
    """Say what keeps a text that is nearly a percentage from being one."""
    if _PERCENT.fullmatch(together := "".join(text.split())):
        return f"must be written without a space, as {together}"
    if re.fullmatch(r"[0-9]+\.[0-9]{3,}%", text, re.ASCII):
        return f"must have at most two decimals, not {shown(text)}"
    return None


def _quoted_decimal(parse: Callable[[str], T], example: str, bounds: str | None = None) -> Reader[T]:
    def read(node: Node, report: Report) -> T | None:
        if not isinstance(node, Value):
            report.problem(node.place, f'must be a decimal in quotes, such as "{example}", not {described(node)}')
            return None
        try:
            value = parse(node.text)
        except OutOfBounds as error:
            report.problem(node.place, bounds or error.rule)
            return None
        except ValueError:
            if re.fullmatch(r"-[0-9]+(\.[0-9]+)?", node.text, re.ASCII):
                report.problem(node.place, f"must not be negative, as {shown(node.text)} is")
            else:
                wanted = "an exact decimal" if node.kind is Kind.QUOTED else "an exact decimal in quotes,"
                report.problem(node.place, f'{shown(node.text)} is not {wanted} such as "{example}"')
            return None
        if node.kind is Kind.QUOTED:
            return value
        report.problem(node.place, f'must be in quotes, as "{node.text}", so that it is exact and never a float')
        return None

    return read


usd = _quoted_decimal(parse_usd, "0.25")
"""USD in quotes, as nano-USD."""
rate = _quoted_decimal(parse_rate_per_million, "1.25")
"""USD per million tokens in quotes, as pico-USD per token."""
multiplier = _quoted_decimal(parse_multiplier, "1.15")
"""A factor in quotes."""
_MICRO_BOUNDS = "must be in steps of 0.000001 up to 4500000000"
_micro = _quoted_decimal(parse_usd, "0.25", _MICRO_BOUNDS)


def micro_usd(node: Node, report: Report) -> int | None:
    """USD in quotes as micro-USD, which is what ledger counters hold."""
    nano = _micro(node, report)
    if nano is None:
        return None
    if nano % NANO_PER_MICRO or nano // NANO_PER_MICRO > MAX_MICRO:
        report.problem(node.place, _MICRO_BOUNDS)
        return None
    return nano // NANO_PER_MICRO


def ratio(node: Node, report: Report) -> Fraction | None:
    """A whole number, or a decimal in quotes, of at least 1."""
    if isinstance(node, Value) and node.kind is Kind.INT:
        number = whole(1, 1000)(node, report)
        return None if number is None else Fraction(number)
    factor = multiplier(node, report)
    if factor is not None and factor < 1:
        report.problem(node.place, "must be at least 1")
        return None
    return factor


def one_of(options: Iterable[str]) -> Reader[str]:
    """Return a reader of one word of a closed list."""
    known = tuple(options)
    return matching(known.__contains__, f"one of {', '.join(known)}", lambda word: did_you_mean(word, known))


size = matching(Size.parse, "a size such as 1536x1024")
"""A size in pixels, `1536x1024`."""
_shape = matching(
    lambda word: Size.parse(word) or parse_ratio(word), 'a size such as 1536x1024, nor a ratio such as "3:2"'
)


def shape(node: Node, report: Report) -> str | None:
    """A size in pixels, or a ratio of width to height in quotes, `"3:2"`."""
    if isinstance(node, Value) and node.kind is not Kind.QUOTED and parse_ratio(node.text):
        report.problem(node.place, f'write a ratio in quotes, as "{node.text}"; YAML reads some of them as numbers')
        return None
    return _shape(node, report)


def shape_or_auto(node: Node, report: Report) -> str | None:
    """A size in pixels, a ratio, or `auto`."""
    return AUTO if isinstance(node, Value) and node.text == AUTO else shape(node, report)


def listed(item: Reader[T]) -> Reader[tuple[T, ...]]:
    """Return a reader of a list with at least one item, none of them twice."""

    def read(node: Node, report: Report) -> tuple[T, ...] | None:
        if not isinstance(node, Items):
            report.problem(node.place, f"must be a list, as [a, b], not {described(node)}")
            return None
        if not node.nodes:
            report.problem(node.place, "needs at least one item")
            return None
        found: list[T] = []
        for each in node.nodes:
            value = item(each, report)
            if value is not None and value in found:
                report.problem(each.place, "is given twice in the list")
            elif value is not None:
                found.append(value)
        return tuple(found)

    return read


def one_or_listed(item: Reader[T]) -> Reader[tuple[T, ...]]:
    """Return a reader of one value, or of a list of them."""

    def read(node: Node, report: Report) -> tuple[T, ...] | None:
        if isinstance(node, Items):
            return listed(item)(node, report)
        value = item(node, report)
        return None if value is None else (value,)

    return read
