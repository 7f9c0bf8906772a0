"""Prices by the image: one for all, by tiers of pixels, by size, by quality, or by quality within these."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

from gateway.config.documents import Node, Table
from gateway.config.fields import Fields, as_table
from gateway.config.problems import Place, Report, did_you_mean
from gateway.config.values import whole
from gateway.domain.job import Size
from gateway.domain.price import PixelTier, Price

_MOST_PIXELS = 10**9
_QUALITY_WORDS = frozenset({"low", "medium", "high", "standard", "hd", "auto"})
"""Words that nobody calls a size; between them they are nearly all that the qualities of models are called."""
Amount = Callable[[Node, Report], int]
"""Reads a price, nano-USD."""


def read_image_prices(row: Fields, qualities: Collection[str], amount: Amount, report: Report) -> tuple[PixelTier, ...]:
    """Read `per_image` with its `buckets`, smallest tier first; none if it is left out."""
    node = row.node("per_image")
    if node is None:
        return ()
    if not isinstance(node, Table):
        return (PixelTier("any", amount(node, report), None),)
    if row.node("buckets") is None and _check_misplaced(node, qualities, report):
        return ()
    cells = list(_cells(node, qualities, report))
    named = [place for place, _, _ in cells if place is not None and Size.parse(place) is None]
    buckets = read_buckets(row, named, "per_image", report)
    tiers = [_tier(place, quality, amount(each, report), buckets) for place, quality, each in cells]
    if not tiers:
        report.problem(node.place, "needs at least one tier")
    for quality in dict.fromkeys(tier.quality for tier in tiers):
        _check_tiers(node.place, row, [tier for tier in tiers if tier.quality == quality], report)
    return tuple(sorted(tiers, key=lambda tier: _MOST_PIXELS + 1 if tier.max_pixels is None else tier.max_pixels))


def _check_misplaced(table: Table, qualities: Collection[str], report: Report) -> bool:
    """Report qualities where the model has none of them, so that they would be read as names of sizes."""
    if not qualities or any(key in qualities for key in table.nodes):
        return False
    misplaced = sorted(_QUALITY_WORDS & table.nodes.keys())
    for word in misplaced:
        report.problem(
            table.keys[word],
            f"is no quality of the model: name one of {', '.join(qualities)}, or sizes such as 1024x1024",
        )
    return bool(misplaced)


def _tier(place: str | None, quality: str | None, nano: int, buckets: dict[str, int]) -> PixelTier:
    size = Size.parse(place) if place else None
    return PixelTier(place or quality or "any", nano, buckets.get(place or ""), size, quality)


def _cells(table: Table, qualities: Collection[str], report: Report) -> Iterator[tuple[str | None, str | None, Node]]:
    """Yield what each price is for: a size or tier (None: any), a quality (None: any), and its node."""
    by_quality = any(key in qualities for key in table.nodes)
    if by_quality:
        _check_words(table, qualities, report)
    for key, node in table.nodes.items():
        if not isinstance(node, Table):
            yield (None, key, node) if by_quality else (key, None, node)
            continue
        inner = as_table(node, report)
        if not by_quality:
            _check_words(inner, qualities, report)
        if not inner.nodes:
            report.problem(node.place, "needs at least one price")
        for other, each in inner.nodes.items():
            yield (other, key, each) if by_quality else (key, other, each)


def _check_words(table: Table, qualities: Collection[str], report: Report) -> None:
    for word, place in table.keys.items():
        if qualities and word not in qualities:
            report.problem(place, "is no quality of the model" + did_you_mean(word, qualities))


def read_buckets(row: Fields, named: Sequence[str], of: str, report: Report) -> dict[str, int]:
    """Read `buckets`: the most pixels of each named tier of the map `of`."""
    buckets: dict[str, int] = {}
    for tier, node in row.entries("buckets"):
        if tier not in named:
            report.problem(node.place, f"{of} has no such tier" + did_you_mean(tier, named))
        pixels = whole(1, _MOST_PIXELS)(node, report)
        if pixels is not None and pixels in buckets.values():
            report.problem(node.place, "another tier ends at the same number of pixels")
        buckets[tier] = pixels or 0
    return buckets


def check_open_tier(place: Place, row: Fields, tiers: Sequence[tuple[str, int | None]], report: Report) -> None:
    """Report tiers (name, most pixels) of which not exactly one takes all larger images."""
    open_tiers = [name for name, most in tiers if most is None]
    if not open_tiers:
        report.problem(row.at("buckets"), "leave the largest tier out of buckets: it takes all larger images")
    elif len(open_tiers) > 1:
        report.problem(place, f"buckets must say where all tiers but one end; {', '.join(open_tiers)} have none")


def _check_tiers(place: Place, row: Fields, tiers: Sequence[PixelTier], report: Report) -> None:
    """Sizes may stand alone: what is not among them costs as much as the dearest."""
    places = [(tier.name, tier.max_pixels) for tier in tiers if tier.size is None]
    if places:
        check_open_tier(place, row, places, report)


def price_gap(prices: Iterable[Price], qualities: Sequence[str]) -> str | None:
    """Say which of these qualities a row by quality has no price for; None if each row has all."""
    for price in prices:
        known = {tier.quality for tier in price.per_image}
        missing = [quality for quality in qualities if known and None not in known and quality not in known]
        if missing:
            return f"per_image of {price.valid_from} has no price for quality {', '.join(missing)}"
    return None
