"""Price rows: one shape of price each, and what applies to any of them, valid from a day on."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import date
from fractions import Fraction

from gateway.config.documents import Items, Kind, Node, Table, Value
from gateway.config.fields import Fields
from gateway.config.image_prices import read_image_prices
from gateway.config.problems import Report
from gateway.config.schema import ADD_ONS, PER_MEGAPIXEL, PRICE, PRICE_SHAPES, SOURCE, TOKENS_PER_MILLION
from gateway.config.values import day, described, listed, multiplier, one_of, rate, truth, usd, web_page, whole
from gateway.domain.money import ONE
from gateway.domain.price import AddOns, Bills, Charged, MegapixelRates, Metered, Price, TokenRates

_FREE = "a price of 0 would make budgets blind; give the smallest real price"
_MOST_COUNT = 10**6
_MEGAPIXELS = (1_000_000, 1_048_576)
_CHARGED = listed(one_of(Charged))
_BY_THE_IMAGE = ("per_image", "per_megapixel")
_SHAPES = ", ".join(PRICE_SHAPES[:-1]) + f" and {PRICE_SHAPES[-1]}"


def read_prices(fields: Fields, report: Report, qualities: Collection[str] = ()) -> tuple[Price, ...]:
    """Read the `price` list of a model or route, in order of `from`; rows that are wrong are reported and left out.

    `qualities` are the model's, empty where they could not be read.
    """
    rows: list[Price] = []
    given = fields.node("price")
    if isinstance(given, Items) and not given.nodes:
        report.problem(given.place, "needs at least one item")
    for node in fields.items("price"):
        row = Fields(node, PRICE, report)
        price = _price(row, qualities, report)
        if price is None:
            continue
        check_new_day(price.valid_from, (other.valid_from for other in rows), row)
        rows.append(price)
    return tuple(sorted(rows, key=lambda row: row.valid_from))


def _price(row: Fields, qualities: Collection[str], report: Report) -> Price | None:
    before = len(report.problems)
    valid_from = row.required("from", day)
    source = read_source(row)
    shapes = [key for key in PRICE_SHAPES if row.node(key) is not None]
    if len(shapes) != 1:
        report.problem(row.place, f"give exactly one of {_SHAPES}")
    tokens = _token_rates(row, report)
    per_image = read_image_prices(row, qualities, _amount, report)
    megapixels = _megapixels(row, report)
    seconds = _metered(row, "per_second", "estimate_seconds", "most_seconds", report)
    units = _metered(row, "per_unit", "units_per_image", "most_units", report)
    per_request = row.read("per_request", _amount)
    add_ons = _add_ons(row, report)
    factor = _multiplier(row, report)
    charged_for = _charged_for(row, report)
    bills = row.read("bills", one_of(Bills))
    unit = row.read("reported_unit", _amount)
    if unit and shapes and shapes[0] in ("per_unit", "free"):
        report.problem(row.at("reported_unit"), f"does not go with {shapes[0]}")
    free = _free(row, report)
    if row.node("buckets") is not None and not isinstance(row.node("per_image"), Table):
        report.problem(row.at("buckets"), "belongs to a per_image with named tiers")
    if bills and shapes and shapes[0] not in _BY_THE_IMAGE:
        report.problem(row.at("bills"), "is about images: it belongs to per_image or per_megapixel")
    if valid_from is None or len(report.problems) > before:
        return None
    return Price(
        valid_from,
        source,
        tokens,
        per_image,
        megapixels,
        seconds,
        units,
        per_request,
        free=free,
        add_ons=add_ons,
        multiplier=factor,
        charged_for=charged_for,
        bills=Bills(bills or Bills.RETURNED),
        reported_unit=unit,
    )


def check_new_day(valid_from: date, others: Iterable[date], row: Fields) -> None:
    """Report a price row that starts on the day of another one."""
    if valid_from in others:
        row.report.problem(row.at("from"), f"another price starts on {valid_from} too")


def check_cached(plain: int, cached: int | None, key: str, row: Fields) -> None:
    """Report a rate for cached tokens above the plain one, by which the most that a request may cost is reckoned."""
    if cached is not None and cached > plain:
        row.report.problem(row.at(f"{key}_cached"), f"is more than {key}; a cached token never costs more")


def read_source(row: Fields) -> str:
    """Return where a price row's figures come from; empty where it does not say."""
    source = row.within("source", SOURCE)
    if source is None:
        return ""
    url, read = source.required("url", web_page), source.read("read", day)
    return f"{url} (read {read})" if read else str(url)


def _token_rates(row: Fields, report: Report) -> TokenRates | None:
    fields = row.within("tokens_per_million", TOKENS_PER_MILLION)
    if fields is None:
        return None
    text_in, image_in = fields.required("text_in", rate) or 0, fields.required("image_in", rate) or 0
    text_cached, image_cached = fields.read("text_in_cached", rate), fields.read("image_in_cached", rate)
    check_cached(text_in, text_cached, "text_in", fields)
    check_cached(image_in, image_cached, "image_in", fields)
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


def _amount(node: Node, report: Report) -> int:
    nano = usd(node, report)
    if nano == 0:
        report.problem(node.place, _FREE)
    return nano or 0


def _megapixels(row: Fields, report: Report) -> MegapixelRates | None:
    fields = row.within("per_megapixel", PER_MEGAPIXEL)
    if fields is None:
        return None
    first, more = fields.read("first", _amount), fields.required("more", usd)
    if more == 0 and first is None:
        report.problem(fields.at("more"), _FREE)
    per_input, most_input = fields.read("input", _amount), fields.read("most_input_megapixels", whole(1, _MOST_COUNT))
    if per_input is not None and most_input is None and fields.node("most_input_megapixels") is None:
        report.problem(fields.at("input"), "needs most_input_megapixels: how much one input image can count as at most")
    if per_input is None and most_input is not None:
        report.problem(fields.at("most_input_megapixels"), "belongs to input, which is missing")
    pixels = fields.read("megapixel", whole(1, 2 * _MEGAPIXELS[1]))
    if pixels is not None and pixels not in _MEGAPIXELS:
        report.problem(fields.at("megapixel"), f"must be {_MEGAPIXELS[0]} or {_MEGAPIXELS[1]} pixels, not {pixels}")
    return MegapixelRates(
        more=more or 0,
        first=first,
        input=per_input or 0,
        most_input=most_input or 0,
        megapixel=pixels or _MEGAPIXELS[0],
        whole=fields.read("rounding", one_of(("up", "exact"))) != "exact",
    )


def _metered(row: Fields, key: str, usual: str, most: str, report: Report) -> Metered | None:
    """Read a price for what the provider counts, with how many an image takes: usually, and at most."""
    if row.node(key) is None:
        for each in (usual, most):
            if row.node(each) is not None:
                report.problem(row.at(each), f"belongs to {key}")
        return None
    nano = _amount(row.node(key) or Table(row.place, {}, {}), report)
    top = row.required(most, _count)
    estimate = row.read(usual, _count)
    if top is not None and estimate is not None and estimate > top:
        report.problem(row.at(usual), f"is more than {most}")
    return Metered(nano, estimate or top or Fraction(0), top or Fraction(0))


def _count(node: Node, report: Report) -> Fraction | None:
    """A whole number, or a decimal in quotes, above 0."""
    if isinstance(node, Value) and node.kind is Kind.INT:
        number = whole(1, _MOST_COUNT)(node, report)
        return None if number is None else Fraction(number)
    if not isinstance(node, Value) or node.kind is not Kind.QUOTED:
        report.problem(
            node.place, f'must be a whole number, or a decimal in quotes such as "2.5", not {described(node)}'
        )
        return None
    count = multiplier(node, report)
    if count is not None and not 0 < count <= _MOST_COUNT:
        report.problem(node.place, f"must be above 0 and at most {_MOST_COUNT}")
        return None
    return count


def _add_ons(row: Fields, report: Report) -> AddOns:
    fields = row.within("add_ons", ADD_ONS)
    if fields is None:
        return AddOns()
    if all(fields.node(key) is None for key in ADD_ONS.known):
        report.problem(fields.place, f"adds nothing; give {' or '.join(ADD_ONS.known)}")
    return AddOns(fields.read("input_image", _amount) or 0, fields.read("request", _amount) or 0)


def _multiplier(row: Fields, report: Report) -> Fraction:
    factor = row.read("multiplier", multiplier)
    if factor == 0:
        report.problem(row.at("multiplier"), _FREE)
    return factor or ONE


def _charged_for(row: Fields, report: Report) -> frozenset[str]:
    words = row.read("charged_for", _CHARGED)
    if words is not None and Charged.SUCCEEDED not in words:
        report.problem(row.at("charged_for"), "succeeded is missing: what succeeds is always charged")
    return frozenset(words or (Charged.SUCCEEDED,))


def _free(row: Fields, report: Report) -> bool:
    free = row.read("free", truth)
    if free is False:
        report.problem(row.at("free"), "is true or left out; give a price instead")
    if free:
        for key in ("add_ons", "multiplier", "charged_for"):
            if row.node(key) is not None:
                report.problem(row.at(key), "has no meaning where nothing is charged")
    return bool(free)
