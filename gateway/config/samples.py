"""Samples: requests that differ in all that prices depend on, so that what holds for each of them holds for any."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import product

from gateway.config.ability import able_operations, faces
from gateway.domain.job import AUTO, Job, Operation, Size, parse_ratio
from gateway.domain.policy import JobType
from gateway.domain.price import Price
from gateway.domain.route import Model, Route, SizeRule
from gateway.domain.tiers import RESOLUTIONS
from gateway.steps.classify import MAX_PARTIAL_IMAGES

Sample = tuple[Job, Model]
"""One image with a prompt of one byte, and the model in whose words its quality is."""
_MOST_STEPS = 16
"""Of prices by megapixel, how many are looked at."""
_LONGEST_RATIO = 999
_RESOLUTIONS = (None, *RESOLUTIONS)


def usual(job_type: JobType) -> Job:
    """Return the request that leaves everything to the job type's defaults."""
    match = job_type.match.fields.get("operation") if job_type.match is not None else None
    edits = Operation.GENERATE not in able_operations(job_type.routes) or match == (Operation.EDIT,)
    return _least(Operation.EDIT if edits else Operation.GENERATE)


def samples(job_type: JobType, routes: Sequence[Route], *, plain: bool = False) -> Iterator[Sample]:
    """Yield requests that the job type may allow and all of these routes can do, the dearest first of each shape.

    The length of the prompt and the number of images are not among what differs: what a price makes of them is known
    of it without. Where they are `plain`, they have the fewest input images, and no partial ones.
    """
    able = [face for route in routes for face in faces(route)]
    speakers = {face.model.name: face.model for route in (*job_type.routes, *routes) for face in faces(route)}
    words = [(model, word) for model in speakers.values() for word in (*reversed(model.capabilities.quality), AUTO)]
    sizes = list(dict.fromkeys(_sizes(job_type, able)))
    shapes = [look for shape in _shapes(routes, able, plain=plain) for look in _looks(shape, job_type, able)]
    for shape, (size, resolution), (speaker, word) in product(shapes, sizes, words):
        yield replace(shape, quality=word, size=size, resolution=resolution), speaker


def _least(operation: Operation) -> Job:
    references = int(operation is Operation.EDIT)
    return Job(operation, None, prompt_chars=1, prompt_bytes=1, references=references)


def _shapes(routes: Sequence[Route], able: Sequence[Route], *, plain: bool) -> list[Job]:
    """What each of the routes can do, with the fewest and with the most images that go in and are shown on the way."""
    operations = set.intersection(*({*able_operations((route,))} for route in routes))
    found = [_least(operation) for operation in (Operation.GENERATE, Operation.EDIT) if operation in operations]
    if plain:
        return found[:1]
    if Operation.EDIT in operations:
        most = min(max(face.capabilities.references for face in faces(route)) for route in routes)
        mask = all(any(face.capabilities.mask for face in faces(route)) for route in routes)
        found.append(replace(_least(Operation.EDIT), references=max(most, 1), mask=mask))
    if any(face.model.output_tokens.per_partial_image for face in able):
        found += [replace(shape, stream=True, partial_images=MAX_PARTIAL_IMAGES) for shape in found]
    return found


def _looks(shape: Job, job_type: JobType, able: Sequence[Route]) -> Iterator[Job]:
    """Yield it as it is, which any route takes; and with what takes the place of defaults that not all of them make."""
    yield shape
    if {"background", "output_format"} & job_type.defaults.keys():
        formats = dict.fromkeys(word for face in able for word in face.capabilities.output_formats)
        yield from (replace(shape, background="opaque", output_format=word) for word in formats)


def _sizes(job_type: JobType, able: Sequence[Route]) -> Iterator[tuple[str, str | None]]:
    """Yield sizes with resolutions: those that policy lists, or that the routes and their prices know, and ratios."""
    if usual_size := job_type.defaults.get("size"):
        yield usual_size, None
    listed = job_type.allow.get("size")
    if listed:
        yield from ((size, None) for size in (*listed, AUTO))
        yield from product(filter(parse_ratio, listed), RESOLUTIONS)
        return
    rows = [row for face in able for row in (*face.prices, *face.model.prices)]
    named = [tier.size for row in rows for tier in row.per_image if tier.size is not None]
    ends = {end for row in rows for end in _ends(row)}
    ends |= {tier.max_pixels for face in able for tier in face.model.output_tokens.by_resolution if tier.max_pixels}
    sizes = [*named, *(size for face in able for size in _made(face.capabilities.sizes, ends))]
    sizes = sorted(dict.fromkeys(sizes), key=lambda size: size.pixels, reverse=True)
    yield from ((str(size), None) for size in sizes)
    ratios = dict.fromkeys(text for size in sizes if (text := _ratio(size)))
    yield from product((*ratios, AUTO), _RESOLUTIONS)


def _ratio(size: Size) -> str | None:
    common = math.gcd(size.width, size.height)
    width, height = size.width // common, size.height // common
    return f"{width}:{height}" if max(width, height) <= _LONGEST_RATIO else None


def _ends(row: Price) -> Iterator[int]:
    """Yield the pixels at which a price goes up."""
    yield from (tier.max_pixels for tier in row.per_image if tier.max_pixels)
    if row.megapixels is not None:
        yield from (row.megapixels.megapixel * step for step in range(1, _MOST_STEPS + 1))


def _made(rule: SizeRule, ends: set[int]) -> Iterator[Size]:
    """Yield the sizes of a fixed list; within bounds, squares and strips at these and where prices go up."""
    if rule.fixed:
        yield from rule.fixed
        return
    if rule.tiers is not None:
        yield from (rule.tiers.size(rule.tiers.ratios[0], name) for name, _ in rule.tiers.resolutions)
        return
    multiple = rule.multiple
    for pixels, ratio in product((rule.max_pixels, *ends, rule.min_pixels), (Fraction(1), rule.max_ratio)):
        below = min(math.isqrt(int(pixels / ratio)), int(rule.max_edge / ratio)) // multiple
        for short in (below * multiple, (below + 1) * multiple):
            size = Size(int(short * ratio) // multiple * multiple, short)
            if size.pixels and rule.refusal(size) is None:
                yield size
