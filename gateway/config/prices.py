"""Price rows: token rates or per-image tiers, each valid from a day on."""

from __future__ import annotations

from gateway.config.documents import Node, Table
from gateway.config.fields import Fields
from gateway.config.problems import Place, Report, did_you_mean
from gateway.config.schema import PRICE, SOURCE, TOKENS_PER_MILLION
from gateway.config.values import day, rate, text, usd, whole
from gateway.domain.route import PixelTier, Price, TokenRates

_MOST_PIXELS = 10**9
_FREE = "a price of 0 would make budgets blind; give the smallest real price"


def read_prices(fields: Fields, report: Report) -> tuple[Price, ...]:
    """Read the `price` list of a model or route, in order of `from`; rows that are wrong are reported and left out."""
    rows: list[Price] = []
    for node in fields.items("price"):
        row = Fields(node, PRICE, report)
        price = _price(row, report)
        if price is None:
            continue
        if any(price.valid_from == other.valid_from for other in rows):
            report.problem(row.at("from"), f"another price starts on {price.valid_from} too")
        rows.append(price)
    return tuple(sorted(rows, key=lambda row: row.valid_from))


def _price(row: Fields, report: Report) -> Price | None:
    before = len(report.problems)
    valid_from = row.required("from", day)
    source = _source(row)
    kinds = [key for key in ("tokens_per_million", "per_image") if row.node(key) is not None]
    if len(kinds) != 1:
        report.problem(row.place, "give exactly one of tokens_per_million and per_image")
    tokens = _token_rates(row, report)
    tiers = _tiers(row, report)
    if row.node("buckets") is not None and not isinstance(row.node("per_image"), Table):
        report.problem(row.at("buckets"), "belongs to a per_image with named tiers")
    if valid_from is None or len(report.problems) > before:
        return None
    return Price(valid_from, source, tokens, tiers)


def _source(row: Fields) -> str:
    source = row.within("source", SOURCE)
    if source is None:
        return ""
    url, read = source.required("url", text), source.read("read", day)
    return f"{url} (read {read})" if read else str(url)


def _token_rates(row: Fields, report: Report) -> TokenRates | None:
    fields = row.within("tokens_per_million", TOKENS_PER_MILLION)
    if fields is None:
        return None
    text_in, image_in = fields.required("text_in", rate) or 0, fields.required("image_in", rate) or 0
    text_cached, image_cached = fields.read("text_in_cached", rate), fields.read("image_in_cached", rate)
    image_out = fields.required("image_out", rate)
    if image_out == 0:
        report.problem(fields.at("image_out"), _FREE)
    return TokenRates(
        text_in=text_in,
        text_in_cached=text_in if text_cached is None else text_cached,
        image_in=image_in,
        image_in_cached=image_in if image_cached is None else image_cached,
        image_out=image_out or 0,
        text_out=fields.read("text_out", rate),
    )


def _tiers(row: Fields, report: Report) -> tuple[PixelTier, ...]:
    node = row.node("per_image")
    if node is None:
        return ()
    if not isinstance(node, Table):
        return (PixelTier("any", _amount(node, report), None),)
    amounts = {tier: _amount(each, report) for tier, each in row.entries("per_image")}
    buckets = dict(_buckets(row, amounts, report))
    tiers = [PixelTier(tier, amount, buckets.get(tier)) for tier, amount in amounts.items()]
    _check_tiers(node.place, row, tiers, report)
    return tuple(sorted(tiers, key=lambda tier: _MOST_PIXELS + 1 if tier.max_pixels is None else tier.max_pixels))


def _amount(node: Node, report: Report) -> int:
    nano = usd(node, report)
    if nano == 0:
        report.problem(node.place, _FREE)
    return nano or 0


def _buckets(row: Fields, amounts: dict[str, int], report: Report) -> list[tuple[str, int]]:
    buckets: list[tuple[str, int]] = []
    for tier, node in row.entries("buckets"):
        if tier not in amounts:
            report.problem(node.place, "per_image has no such tier" + did_you_mean(tier, amounts))
        pixels = whole(1, _MOST_PIXELS)(node, report)
        if pixels is not None and any(pixels == other for _, other in buckets):
            report.problem(node.place, "another tier ends at the same number of pixels")
        buckets.append((tier, pixels or 0))
    return buckets


def _check_tiers(place: Place, row: Fields, tiers: list[PixelTier], report: Report) -> None:
    open_tiers = [tier.name for tier in tiers if tier.max_pixels is None]
    if not tiers:
        report.problem(place, "needs at least one tier")
    elif not open_tiers:
        report.problem(row.at("buckets"), "leave the largest tier out of buckets: it takes all larger images")
    elif len(open_tiers) > 1:
        report.problem(place, f"buckets must say where all tiers but one end; {', '.join(open_tiers)} have none")
