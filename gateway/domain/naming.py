"""Naming: which model a client means, what serves once it has retired, and the same quality in another's words."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from datetime import date

from gateway.domain.job import AUTO, JOB_PREFIX
from gateway.domain.policy import Policy
from gateway.domain.route import AfterRetirement, Model, Route


def model_named(name: str | None, policy: Policy) -> Model | None:
    """Return the model of this name or snapshot; None for a job type's name, and for one that policy does not know."""
    if name is None or name.startswith(JOB_PREFIX):
        return None
    known = policy.models.get(name)
    if known is not None:
        return known
    return next((model for model in policy.models.values() if model.snapshot == name), None)


def is_retired(model: Model, today: date) -> bool:
    """Tell whether the vendor has shut the model down."""
    return model.retires is not None and model.retires <= today


def in_place_of(model: Model, policy: Policy, today: date) -> Iterator[Model]:
    """Yield the model, and once it has retired what replaces it, and so on."""
    seen: set[str] = set()
    following: Model | None = model
    while following is not None and following.name not in seen:
        yield following
        seen.add(following.name)
        over = is_retired(following, today) and following.replacement is not None
        following = policy.models.get(following.replacement or "") if over else None


def serving(route: Route, today: date) -> Route | None:
    """Return the route itself, or what serves in its place after its model's retirement; None if nothing does."""
    following: Route | None = route
    while following is not None and is_retired(following.model, today):
        following = following.successor if following.after_retirement is AfterRetirement.REPLACE else None
    return following


def translated(word: str, speaker: Model, maker: Model) -> str:
    """Return what a quality of the one model is called on the other; the word itself where the catalog has no other."""
    if word == AUTO or speaker.name == maker.name:
        return word
    return maker.equivalent_quality.get(speaker.name, {}).get(word, word)


def speaker_of(word: str, speaker: Model, house: Model, models: Iterable[Model]) -> Model:
    """Return in whose words a quality is: the speaker's, else the house's, else those of the first model that has it.

    A retired model whose word is still understood goes before all others: a client that names none is an old one.
    """
    if word == AUTO or word in speaker.capabilities.quality:
        return speaker
    if word in house.capabilities.quality:
        return house
    having = [model for model in models if word in model.capabilities.quality]
    old = (model for model in having if model.legacy is not None and word in model.legacy.quality)
    return next(old, having[0] if having else speaker)


def nearest_quality(word: str, allowed: Container[str], model: Model) -> str | None:
    """Return the nearest allowed quality of a model below this word of it, else above; the lowest for no word of it."""
    known = model.capabilities.quality
    at = known.index(word) if word in known else 0
    return next((each for each in (*reversed(known[: at + 1]), *known[at + 1 :]) if each in allowed), None)


def quality_on(route: Route, serves: Route, word: str, speaker: Model) -> str:
    """Return a quality in the words of the model that serves, by way of the retired one if there is no shorter way."""
    equal = serves.model.equivalent_quality
    if serves is not route and speaker.name not in equal:
        word, speaker = translated(word, speaker, route.model), route.model
        if speaker.name not in equal and speaker.legacy is not None:
            return speaker.legacy.quality.get(word, word)
    return translated(word, speaker, serves.model)
