"""Text models: those that lead conversations, with what they read and what a token costs."""

from __future__ import annotations

from datetime import date

from gateway.config.fields import Fields
from gateway.config.prices import check_cached, check_new_day, read_source
from gateway.config.problems import Report
from gateway.config.schema import LONG_CONTEXT, TEXT_MODEL, TEXT_PRICE
from gateway.config.sources import Entry
from gateway.config.values import day, rate, whole
from gateway.domain.responses import TextModel, TextPrice, TextRates

_MOST_CONTEXT = 10**8
_MOST_IMAGE = 10**6


def read_text_model(model_name: str, entry: Entry, today: date, report: Report) -> TextModel:
    """Read one entry of the `text_models` section."""
    fields = Fields(entry.node, TEXT_MODEL, report, entry.place)
    rows = _prices(fields, today, report)
    return TextModel(
        name=model_name,
        context=fields.required("context", whole(1, _MOST_CONTEXT)) or 1,
        image_tokens=fields.required("max_tokens_per_image", whole(1, _MOST_IMAGE)) or 1,
        prices=rows,
    )


def _prices(fields: Fields, today: date, report: Report) -> tuple[TextPrice, ...]:
    before = len(report.problems)
    found: list[TextPrice] = []
    for node in fields.items("price"):
        row = Fields(node, TEXT_PRICE, report)
        price = _price(row)
        if price is not None:
            check_new_day(price.valid_from, (other.valid_from for other in found), row)
            found.append(price)
    rows = tuple(sorted(found, key=lambda price: price.valid_from))
    if len(report.problems) > before:
        return rows
    if not rows and fields.is_whole("price"):
        report.problem(fields.place, "price is missing; a model without one is never called")
    elif rows and (start := rows[0].valid_from) > today:
        report.problem(fields.at("price"), f"starts on {start}, so there is none today")
    return rows


def _price(row: Fields) -> TextPrice | None:
    valid_from, source, rates = row.required("from", day), read_source(row), _rates(row)
    long = row.within("long_context", LONG_CONTEXT)
    above = long.required("above", whole(1, _MOST_CONTEXT)) if long else None
    long_rates = _rates(long) if long else None
    if valid_from is None or rates is None:
        return None
    return TextPrice(valid_from, source, rates, above or 0, long_rates)


def _rates(row: Fields) -> TextRates | None:
    text_in, text_out = row.required("text_in", rate), row.required("text_out", rate)
    cached, written = row.read("text_in_cached", rate), row.read("text_in_written", rate)
    if text_in is None or text_out is None:
        return None
    if text_in == 0 or text_out == 0:
        row.report.problem(row.place, "a price of 0 would make budgets blind; give the smallest real price")
    check_cached(text_in, cached, "text_in", row)
    return TextRates(text_in, text_in if cached is None else cached, text_in if written is None else written, text_out)
