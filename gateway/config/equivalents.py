"""Words of one model in terms of another: qualities that make the same picture, and what old clients still send."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.config.documents import Node, Value
from gateway.config.fields import Fields, as_table
from gateway.config.problems import Report, did_you_mean, shown
from gateway.config.schema import LEGACY, LEGACY_DEFAULTS
from gateway.config.values import listed, name, size, truth
from gateway.domain.job import Size
from gateway.domain.route import Legacy, Model

Equivalents = Mapping[str, Mapping[str, str]]

_OURS = frozenset(
    {"model", "prompt", "n", "size", "resolution", "quality", "background", "output_format", "stream", "partial_images"}
    | {"image", "images", "image_urls", "mask", "callback_url", "async"}
)
"""Body fields that the gateway reads or sets for every provider, and prices what is made by."""


def _field(node: Node, report: Report) -> str | None:
    """Read the name of a body field that a provider alone gives a meaning to."""
    field = name(node, report)
    if field not in _OURS:
        return field
    maps = {"quality": ", and map its words with legacy.quality", "size": ", and map sizes with legacy.sizes"}
    report.problem(
        node.place,
        f"{shown(field)} is a field that the gateway itself reads or sets: leave it out{maps.get(field, '')}",
    )
    return None


_FIELDS = listed(_field)


def read_equivalent_quality(owner: Fields, report: Report) -> Equivalents:
    """Read a model's `equivalent_quality`: other model, its word, ours."""
    return {other: _words(node, report) for other, node in owner.entries("equivalent_quality")}


def read_legacy(owner: Fields, report: Report) -> Legacy | None:
    """Read a model's `legacy`; None if there is none."""
    fields = owner.within("legacy", LEGACY)
    if fields is None:
        return None
    quality, sizes = fields.node("quality"), fields.node("sizes")
    return Legacy(
        quality=_words(quality, report) if quality else {},
        sizes=_sizes(sizes, report) if sizes else {},
        drop=fields.read("drop", _FIELDS) or (),
        links=fields.read("links", truth) or False,
        defaults=_defaults(fields),
    )


def _defaults(owner: Fields) -> dict[str, str]:
    fields = owner.within("defaults", LEGACY_DEFAULTS)
    if fields is None:
        return {}
    found = {"quality": fields.read("quality", name), "size": fields.read("size", size)}
    return {key: word for key, word in found.items() if word is not None}


def read_quality_names(owner: Fields, qualities: tuple[str, ...]) -> Mapping[str, str]:
    """Read a route's `quality`: the model's word, and what this provider calls it. `qualities` empty: not known."""
    node = owner.node("quality")
    if node is None:
        return {}
    table = as_table(node, owner.report)
    for word, place in table.keys.items():
        if qualities and word not in qualities:
            owner.report.problem(
                place,
                f"the model has no quality {shown(word)}{did_you_mean(word, qualities)}; "
                f"on the left stands one of {', '.join(qualities)}, on the right the provider's word for it",
            )
    return _words(node, owner.report)


def _words(node: Node, report: Report) -> dict[str, str]:
    table = as_table(node, report)
    return {key: word for key, each in table.nodes.items() if (word := name(each, report)) is not None}


def _sizes(node: Node, report: Report) -> dict[str, str]:
    table = as_table(node, report)
    for key, place in table.keys.items():
        if Size.parse(key) is None:
            report.problem(place, f"{shown(key)} is not a size such as 1792x1024")
    return {key: now for key, each in table.nodes.items() if (now := size(each, report)) is not None}


def check_equivalents(model: Model, owner: Fields, models: Mapping[str, Model], report: Report) -> None:
    """Report words that one of the two models has not."""
    node = owner.node("equivalent_quality")
    table = as_table(node, report) if node else None
    for other, words in model.equivalent_quality.items():
        if table is None or other not in table.keys:
            continue
        if other == model.name:
            report.problem(table.keys[other], "compares the model with itself; name another one")
        elif other not in models:
            report.problem(table.keys[other], f"unknown model {shown(other)}{did_you_mean(other, models)}")
        else:
            _check_words(table.nodes[other], words, models[other], model, report)


def _check_words(node: Node, words: Mapping[str, str], theirs: Model, ours: Model, report: Report) -> None:
    table = as_table(node, report)
    for word, mine in words.items():
        known = theirs.capabilities.quality
        if known and word not in known:
            report.problem(table.keys[word], f"{theirs.name} has no quality {shown(word)}{did_you_mean(word, known)}")
        _check_ours(table.nodes[word], mine, ours, report)


def _check_ours(node: Node, word: str, ours: Model, report: Report) -> None:
    known = ours.capabilities.quality
    if known and word not in known:  # without any it could not be read, which is reported
        hint = did_you_mean(word, known)
        report.problem(node.place, f"{ours.name} has no quality {shown(word)}{hint}; it has {', '.join(known)}")


def check_legacy(model: Model, owner: Fields, replacement: Model | None, report: Report) -> None:
    """Report old words that the replacement cannot do; `replacement` is what answers instead of a retired model."""
    if model.legacy is None:
        return
    if replacement is None:
        if model.legacy != Legacy(drop=model.legacy.drop):  # what it takes may be said of any model
            report.problem(
                owner.at("legacy"), "leads nowhere: it needs `retires`, and a `replacement` that still answers then"
            )
        return
    fields = owner.within("legacy", LEGACY)
    quality, sizes = (fields.node("quality"), fields.node("sizes")) if fields else (None, None)
    _check_defaults(model, fields, report)
    for word, now in model.legacy.quality.items():
        node = as_table(quality, report).nodes[word] if quality else owner.node("legacy")
        if node is not None:
            _check_ours(node, now, replacement, report)
    for old, now in model.legacy.sizes.items():
        node = as_table(sizes, report).nodes[old] if sizes else None
        parsed = Size.parse(now)
        refusal = replacement.capabilities.sizes.refusal(parsed) if parsed else None
        if isinstance(node, Value) and refusal:
            report.problem(node.place, f"{replacement.name}: {refusal}")


def _check_defaults(model: Model, legacy: Fields | None, report: Report) -> None:
    """Report what a retired model is said to have done by default, but could not."""
    fields = legacy.within("defaults", LEGACY_DEFAULTS) if legacy else None
    if fields is None or model.legacy is None:
        return
    quality, size_node = fields.node("quality"), fields.node("size")
    if quality and (word := model.legacy.defaults.get("quality")):
        _check_ours(quality, word, model, report)
    parsed = Size.parse(model.legacy.defaults.get("size", ""))
    refusal = model.capabilities.sizes.refusal(parsed) if parsed else None
    if size_node and refusal:
        report.problem(size_node.place, f"{model.name}: {refusal}")
