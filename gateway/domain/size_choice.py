"""Size choice: the size that a route makes of what was asked for, or why it makes none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction

from gateway.domain.job import AUTO, Job, Size, parse_ratio
from gateway.domain.route import Capabilities, Model, SizeRule
from gateway.domain.sizing import closest, nearest, of_ratio
from gateway.domain.tiers import RESOLUTIONS, SLACK, USUAL_PIXELS, sold_as

_LEAST = Fraction(2, 3)
"""Of the pixels that a resolution stands for: with fewer, it is not what was asked for."""


def made(job: Job, rule: SizeRule, allowed: Sequence[str], retired: Model | None) -> Job | None:
    """Return the job in the size that the route makes, or None.

    `allowed` are the sizes that policy lists, none where it lists none. `auto` stays where the provider resolves it.
    Where it takes resolutions it chooses the ratio alone: the size then says the pixels, and `any_ratio` that no more
    than they are meant.
    """
    if job.size == AUTO:
        listed = any(size_of(text, rule, allowed) for text in allowed if text != AUTO)
        return job if rule.tiers is None or listed else _of_any_ratio(job, rule)
    text = size_of(job.size, rule, allowed, retired, job.resolution)
    if text is None:
        return None
    return job if text == job.size else replace(job, size=text)


def _of_any_ratio(job: Job, rule: SizeRule) -> Job | None:
    assert rule.tiers is not None
    if job.resolution is not None and job.resolution not in dict(rule.tiers.resolutions):
        return None
    wanted = RESOLUTIONS["1K"] if job.resolution is None else dict(rule.tiers.resolutions)[job.resolution]
    size = of_ratio(rule, Fraction(1), wanted) or nearest(rule, Size(1024, 1024))
    return replace(job, size=str(size), any_ratio=not rule.fixed) if size else None


def size_of(
    text: str, rule: SizeRule, allowed: Sequence[str], retired: Model | None = None, resolution: str | None = None
) -> str | None:
    """Return the pixels that are made for a size or a ratio, or None. A resolution says more of a ratio alone."""
    ratio = parse_ratio(text)
    if ratio is not None:
        listed = lists_ratio(allowed, ratio)
        size = _of_ratio(rule, ratio, () if listed else allowed, resolution)
        if listed and resolution and size and _is_larger(size, rule, ratio):
            size = _of_ratio(rule, ratio, allowed, resolution)
        return str(size) if size else None
    asked = Size.parse(text)
    if asked is None:
        return None
    if rule.refusal(asked) is None:
        return str(nearest(rule, asked))
    if retired is None or retired.capabilities.sizes.refusal(asked) is not None:
        return None
    meant = Size.parse(retired.legacy.sizes.get(text, text)) if retired.legacy else asked
    size = nearest(rule, meant or asked)
    return str(size) if size else None


def lists_ratio(allowed: Iterable[str], ratio: Fraction) -> bool:
    """Tell whether policy lists a ratio, in whatever terms: 6:4 is 3:2."""
    return any(parse_ratio(each) == ratio for each in allowed)


def _is_larger(size: Size, rule: SizeRule, ratio: Fraction) -> bool:
    """Tell whether a size is more than its ratio alone stands for."""
    usual = _of_ratio(rule, ratio, (), None)
    return size.pixels > SLACK * max(USUAL_PIXELS, usual.pixels if usual else 0)


def _of_ratio(rule: SizeRule, ratio: Fraction, allowed: Sequence[str], resolution: str | None) -> Size | None:
    """Of the sizes that policy lists, the one of this ratio; of all that are made, if it lists none."""
    sold = sold_as(ratio, resolution) if resolution else None
    pixels = sold.pixels if sold else RESOLUTIONS[resolution] if resolution else USUAL_PIXELS
    if rule.tiers is not None and resolution is not None:
        if resolution not in dict(rule.tiers.resolutions):
            return None
        pixels = dict(rule.tiers.resolutions)[resolution]
    if allowed:
        listed = closest((size for size in parsed(allowed) if rule.refusal(size) is None), ratio, pixels)
        found = nearest(rule, listed) if listed else None
    elif sold is not None and rule.tiers is None and rule.refusal(sold) is None:
        return sold
    else:
        found = of_ratio(rule, ratio, pixels)
    return None if found is None or (resolution and found.pixels < pixels * _LEAST) else found


def unsized(job: Job, rule: SizeRule, allowed: Sequence[str]) -> tuple[str, str]:
    """Return the field at fault, and why nothing of the size is made, in words for the caller.

    `allowed` are the sizes that policy lists, none where it lists none.
    """
    text, size, ratio = job.size, Size.parse(job.size), parse_ratio(job.size)
    if size is not None:
        return "size", rule.refusal(size) or f"size {size} has no counterpart"
    names = [name for name, _ in rule.tiers.resolutions] if rule.tiers else []
    if job.resolution is not None and names and job.resolution not in names:
        return "resolution", f"makes {', '.join(names)}, not {job.resolution}"
    if ratio is None:
        return "size", f"size {text!r} is neither auto nor WIDTHxHEIGHT nor a ratio such as 3:2"
    if job.resolution and lists_ratio(allowed, ratio) and size_of(text, rule, (), None, job.resolution):
        return "resolution", f"policy allows {text} at about the pixels of 1024x1024, not at {job.resolution}"
    return "size", _no_such_ratio(text, ratio, rule) + (f" at {job.resolution}" if job.resolution else "")


def _no_such_ratio(text: str, ratio: Fraction, rule: SizeRule) -> str:
    if rule.fixed:
        return f"no size of {text} is among {', '.join(map(str, rule.fixed))}"
    if rule.tiers is not None and rule.tiers.of_ratio(ratio) is None:
        return f"size {text} is none of the ratios {', '.join(rule.tiers.ratios)}"
    if rule.tiers is None and max(ratio, 1 / ratio) > rule.max_ratio:
        return f"size {text}: long to short edge is at most {rule.max_ratio}:1"
    return f"size {text}: no size of this ratio that policy allows is within the model's bounds"


def open_sizes(allow: Mapping[str, tuple[str, ...]], can: Capabilities, model: Model) -> tuple[Size, ...]:
    """Sizes that `auto` may still become, if policy lists them or the route makes some of a few; empty is any size."""
    words = allow.get("size")
    if not words:
        return () if can.sizes.fixed == model.capabilities.sizes.fixed else can.sizes.fixed
    found = (size_of(text, can.sizes, words) for text in words if text != AUTO)
    return tuple(parsed([text for text in dict.fromkeys(found) if text]))


def parsed(texts: Sequence[str]) -> list[Size]:
    """Return the sizes among words for sizes."""
    return [size for text in texts if (size := Size.parse(text))]
