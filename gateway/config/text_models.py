"""Text models: those that lead conversations, with what they read and what a token costs."""

from __future__ import annotations

from gateway.config.documents import Node
from gateway.config.fields import Fields
from gateway.config.prices import read_source
from gateway.config.problems import Report
from gateway.config.responses_keys import LONG_CONTEXT, TEXT_MODEL, TEXT_PRICE
from gateway.config.sources import Entry
from gateway.config.values import day, rate, whole
from gateway.domain.responses import TextModel, TextPrice, TextRates

_MOST_CONTEXT = 10**8
_MOST_IMAGE = 10**6


def read_text_model(model_name: str, entry: Entry, report: Report) -> TextModel:
    """Read one entry of the `text_models` section."""
    fields = Fields(entry.node, TEXT_MODEL, report, entry.place)
    rows = [row for node in fields.items("price") if (row := _price(node, report))]
    if fields.node("price") is None:
        report.problem(fields.place, "price is missing; a model without one is never called")
    return TextModel(
        name=model_name,
        context=fields.required("context", whole(1, _MOST_CONTEXT)) or 1,
        image_tokens=fields.required("max_tokens_per_image", whole(1, _MOST_IMAGE)) or 1,
        prices=tuple(sorted(rows, key=lambda row: row.valid_from)),
    )


def _price(node: Node, report: Report) -> TextPrice | None:
    row = Fields(node, TEXT_PRICE, report)
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
    return TextRates(text_in, text_in if cached is None else cached, text_in if written is None else written, text_out)
