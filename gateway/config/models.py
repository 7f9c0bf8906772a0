"""Models: a vendor's facts, whether shipped or a team's own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date

from gateway.config.capabilities import read_capabilities
from gateway.config.documents import Table
from gateway.config.equivalents import check_equivalents, check_legacy, read_equivalent_quality, read_legacy
from gateway.config.fields import Fields, as_table
from gateway.config.image_prices import check_open_tier, price_gap, read_buckets
from gateway.config.prices import read_prices
from gateway.config.problems import Report, did_you_mean
from gateway.config.retirement import replacement_of
from gateway.config.schema import INPUT_IMAGE_TOKENS, MODEL, OUTPUT_TOKENS
from gateway.config.sources import Entry
from gateway.config.values import day, name, text, whole
from gateway.domain.job import Operation, Size
from gateway.domain.naming import is_retired
from gateway.domain.route import Model, OutputTokens, TokenTier

_MOST_TOKENS = 10**6
_UNPRICED = "has no price; a model without one is never called"
_tokens = whole(1, _MOST_TOKENS)


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """A model with its fields, for problems found later. `sound` is false if something in it was wrong."""

    model: Model
    fields: Fields
    sound: bool


def read_model(model_name: str, entry: Entry, report: Report) -> ModelEntry:
    """Read one entry of the `models` section."""
    before = len(report.problems)
    fields = Fields(entry.node, MODEL, report, entry.place)
    inputs = fields.within("input_image_tokens", INPUT_IMAGE_TOKENS)
    capabilities = read_capabilities(fields, report)
    prices = read_prices(fields, report, capabilities.quality)
    if gap := price_gap(prices, capabilities.quality):
        report.problem(fields.at("price"), gap)
    model = Model(
        name=model_name,
        capabilities=capabilities,
        prices=prices,
        output_tokens=_output_tokens(fields, report),
        input_image_tokens=(inputs.required("max_per_image", _tokens) or 0) if inputs else 0,
        snapshot=fields.read("snapshot", text),
        retires=fields.read("retires", day),
        replacement=fields.read("replacement", name),
        equivalent_quality=read_equivalent_quality(fields, report),
        legacy=read_legacy(fields, report),
    )
    return ModelEntry(model, fields, sound=len(report.problems) == before)


def _output_tokens(owner: Fields, report: Report) -> OutputTokens:
    fields = owner.within("output_tokens", OUTPUT_TOKENS)
    if fields is None:
        return OutputTokens()
    forms = ("grid", "table", "by_resolution")
    if fields.lacks(*forms) or sum(fields.node(form) is not None for form in forms) > 1:
        report.problem(fields.place, "give exactly one of grid, table and by_resolution")
    grid = {quality: _tokens(node, report) or 0 for quality, node in fields.entries("grid")}
    table: dict[Size, Mapping[str, int]] = {}
    for text_size, node in fields.entries("table"):
        size = Size.parse(text_size)
        if size is None:
            report.problem(node.place, "a row of the table is a size such as 1024x1024")
            continue
        row: Table = as_table(node, report)
        table[size] = {quality: _tokens(each, report) or 0 for quality, each in row.nodes.items()}
    return OutputTokens(
        grid,
        table,
        fields.read("per_partial_image", whole(0, _MOST_TOKENS)) or 0,
        _by_resolution(fields, report),
        fields.read("text", _tokens) or 0,
    )


def _by_resolution(fields: Fields, report: Report) -> tuple[TokenTier, ...]:
    """Read tokens by tiers of pixels, smallest first."""
    node = fields.node("by_resolution")
    if node is None:
        if fields.node("buckets") is not None:
            report.problem(fields.at("buckets"), "belongs to by_resolution")
        return ()
    tokens = {tier: _tokens(each, report) or 0 for tier, each in fields.entries("by_resolution")}
    buckets = read_buckets(fields, tuple(tokens), "by_resolution", report)
    tiers = [TokenTier(tier, count, buckets.get(tier)) for tier, count in tokens.items()]
    check_open_tier(node.place, fields, [(tier.name, tier.max_pixels) for tier in tiers], report)
    return tuple(sorted(tiers, key=lambda tier: (tier.max_pixels is None, tier.max_pixels or 0)))


def check_model(entry: ModelEntry, models: Mapping[str, ModelEntry], today: date, report: Report) -> None:
    """Report what is wrong with a model as a whole: replacement, price, and the tokens that its price needs."""
    model, fields = entry.model, entry.fields
    if model.replacement is not None:
        _check_replacement(entry, models, report)
    if not entry.sound:
        if fields.lacks("price", "retires"):
            report.problem(fields.place, _UNPRICED)
        return
    if not is_retired(model, today):
        if not model.prices:
            report.problem(fields.place, _UNPRICED)
        elif model.prices[0].valid_from > today:
            start = model.prices[0].valid_from
            report.problem(fields.at("price"), f"starts on {start}, so there is none today")
    for problem in _token_problems(model, by_tokens=any(price.tokens for price in model.prices)):
        report.problem(fields.at("output_tokens"), problem)
    if any(price.tokens for price in model.prices) and takes_images(model) and not model.input_image_tokens:
        report.problem(fields.place, "input_image_tokens is missing: an edit priced by tokens pays for its inputs too")


def check_words(entry: ModelEntry, models: Mapping[str, ModelEntry], report: Report) -> None:
    """Report words for other models that those have not; the catalog's own may be about models as shipped."""
    if entry.sound:
        known = {name: each.model for name, each in models.items()}
        check_equivalents(entry.model, entry.fields, known, report)
        check_legacy(entry.model, entry.fields, replacement_of(entry.model, known), report)


def takes_images(model: Model) -> bool:
    """Tell whether the model reads reference images."""
    return Operation.EDIT in model.capabilities.operations and model.capabilities.references > 0


def _check_replacement(entry: ModelEntry, models: Mapping[str, ModelEntry], report: Report) -> None:
    model, place = entry.model, entry.fields.at("replacement")
    chain = [model.name]
    following = model.replacement
    while following is not None:
        if following == model.name:
            report.problem(place, f"goes round in a circle: {' -> '.join([*chain, following])}")
            return
        if following in chain:
            return
        if following not in models:
            if len(chain) == 1:
                report.problem(place, f"unknown model {following}{did_you_mean(following, models)}")
            return
        chain.append(following)
        following = models[following].model.replacement


def token_gap(model: Model) -> str | None:
    """Say which output tokens are missing before the model can be priced by tokens; None if all are there."""
    return next(_token_problems(model, by_tokens=True), None)


def _token_problems(model: Model, *, by_tokens: bool) -> Iterator[str]:
    tokens, able = model.output_tokens, model.capabilities
    if by_tokens and not tokens.grid and not tokens.table and not tokens.by_resolution:
        yield "output_tokens is missing; a price by tokens needs it"
        return
    if tokens.table and not able.sizes.fixed:
        yield "a table needs a fixed list of sizes in capabilities; use grid"
    if tokens.table:
        yield from (f"the table has no row for size {size}" for size in able.sizes.fixed if size not in tokens.table)
    if tokens.grid:
        yield from _row_problems("grid", tokens.grid, able.quality, by_tokens=by_tokens)
    for size, row in tokens.table.items():
        yield from _row_problems(str(size), row, able.quality, by_tokens=by_tokens)


def _row_problems(label: str, row: Mapping[str, int], qualities: tuple[str, ...], *, by_tokens: bool) -> Iterator[str]:
    gaps = [quality for quality in qualities if quality not in row]
    if by_tokens and gaps:
        yield f"{label} has no tokens for quality {', '.join(gaps)}; a price by tokens needs them"
    for quality in row:
        if quality not in qualities:
            yield f"{label} names quality {quality}, which the model has not{did_you_mean(quality, qualities)}"
