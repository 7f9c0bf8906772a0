"""Conversations of a job type, and paths that go through to a provider as they are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gateway.config.documents import Items, Kind, Node, Value
from gateway.config.fields import Fields
from gateway.config.lookup import Known
from gateway.config.problems import Place, Report, shown
from gateway.config.schema import PASSTHROUGH, RESPONDING_KIND, RESPONSES
from gateway.config.values import listed, one_of, one_or_listed, text, truth, usd, whole
from gateway.domain.money import MAX_REQUEST, NANO_PER_USD
from gateway.domain.passing import METHODS, PassRules, read_path
from gateway.domain.responses import ResponsesRules, TextModel
from gateway.domain.route import ProviderConfig, Route

_MOST_IMAGES = 10
_MOST_TOKENS = 10**6


@dataclass(frozen=True, slots=True)
class Talkers:
    """What conversations may be served by."""

    providers: Known[ProviderConfig]
    text_models: Known[TextModel]


def read_responses(owner: Fields, routes: tuple[Route, ...], talkers: Talkers, report: Report) -> ResponsesRules | None:
    """Read the map under `responses` of a job type with these routes."""
    fields = owner.within("responses", RESPONSES)
    if fields is None:
        return None
    providers = fields.required("provider", one_or_listed(talkers.providers.checked)) or ()
    names = fields.required("models", listed(talkers.text_models.checked)) or ()
    models = tuple(model for name in names if (model := talkers.text_models.things.get(name)))
    for name in providers:
        config = talkers.providers.things.get(name)
        if config is not None and (config.kind != RESPONDING_KIND or not config.profile.plain):
            report.problem(fields.at("provider"), f"{name} is not a plain provider of kind {RESPONDING_KIND}")
        elif routes and not any(route.provider.name == name for route in routes):
            report.problem(fields.at("provider"), f"none of the job type's routes is at {name}; add one that is")
    return ResponsesRules(
        providers=providers,
        models=models,
        max_images=fields.read("max_images", whole(1, _MOST_IMAGES)) or 1,
        max_output_tokens=fields.required("max_output_tokens", whole(16, _MOST_TOKENS)) or 16,
        text_only=fields.read("text_only", truth) or False,
    )


def read_passthrough(nodes: Iterable[Node], providers: Known[ProviderConfig], report: Report) -> tuple[PassRules, ...]:
    """Read what stands under `passthrough`: maps, providers' names alone, or lists of either."""
    maps = [each for node in nodes for each in (node.nodes if isinstance(node, Items) else (node,))]
    return tuple(rules for node in maps if (rules := _rules(node, providers, report)))


def _rules(node: Node, providers: Known[ProviderConfig], report: Report) -> PassRules | None:
    if isinstance(node, Value) and node.kind in {Kind.WORD, Kind.QUOTED}:
        name = _plain(providers.checked(node, report), node.place, providers, report)
        return None if name is None else PassRules(name)
    fields = Fields(node, PASSTHROUGH, report)
    provider = _plain(fields.required("provider", providers.checked), fields.at("provider"), providers, report)
    paths = fields.read("paths", listed(_path)) or ()
    if fields.node("paths") is None and fields.at("paths") != fields.place:
        report.problem(fields.at("paths"), "is empty; name paths, or leave the key out to let all of them through")
    methods = fields.read("methods", listed(one_of(METHODS))) or ()
    price = fields.read("price_per_request", usd)
    if price is not None and price > MAX_REQUEST:
        most = MAX_REQUEST // NANO_PER_USD
        report.problem(fields.at("price_per_request"), f"must be at most ${most}: no request can be held at more")
    return None if provider is None else PassRules(provider, paths, methods, price or None)


def _plain(name: str | None, place: Place, providers: Known[ProviderConfig], report: Report) -> str | None:
    config = providers.things.get(name) if name else None
    if config is not None and (config.kind != RESPONDING_KIND or not config.profile.plain):
        report.problem(place, f"{name} is not a plain provider of kind {RESPONDING_KIND}")
    return name


def _path(node: Node, report: Report) -> str | None:
    word = text(node, report) if isinstance(node, Value) else None
    if word is None:
        report.problem(node.place, "must be a path such as /v1/files")
        return None
    if "*" in word:
        remedy = "leave out the *, a path stands for all below it; without `paths` all go through"
        report.problem(node.place, f"{shown(word)}: {remedy}")
        return None
    if read_path(word) is None:
        wrong = "can never go through; give a plain path such as /v1/files"
        report.problem(node.place, f"{shown(word)} {wrong if word.startswith('/') else 'must begin with /'}")
        return None
    return word
