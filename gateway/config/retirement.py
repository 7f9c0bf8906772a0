"""What serves once a model has retired: the first model along its chain of replacements that outlives it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import date, timedelta

from gateway.config.fields import Fields
from gateway.config.problems import Report
from gateway.config.profiles import within
from gateway.domain.naming import is_retired, serving
from gateway.domain.route import AfterRetirement, Model, Route

NOTICE = timedelta(days=90)
"""How long before it a retirement is warned of."""


def replacement_of(model: Model, models: Mapping[str, Model]) -> Model | None:
    """Return the first model along the chain that answers after this one does not; None if there is none."""
    if model.retires is None:
        return None
    return next((each for each in _chain(model, models) if each.prices and not is_retired(each, model.retires)), None)


def _chain(model: Model, models: Mapping[str, Model]) -> Iterator[Model]:
    seen = {model.name}
    following = model.replacement
    while following is not None and following in models and following not in seen:
        seen.add(following)
        yield models[following]
        following = models[following].replacement


def successor_of(route: Route, models: Mapping[str, Model]) -> Route | None:
    """Return the route as it will be after its model has retired, which may have a successor in its turn.

    The provider's own price and its words for qualities were the old model's, and do not go over.
    """
    if route.after_retirement is AfterRetirement.REFUSE:
        return None
    model = replacement_of(route.model, models)
    if model is None:
        return None
    after = Route(
        name=route.name,
        provider=route.provider,
        model=model,
        upstream_model=model.snapshot or model.name,
        capabilities=within(model.capabilities, route.provider.profile),
        lane=route.lane,
        limits=route.limits,
    )
    # Each one in the line outlives the one before it, so the line ends.
    return replace(after, successor=successor_of(after, models))


def tell_retirement(route: Route, fields: Fields, today: date, report: Report) -> None:
    """Warn of a model that has retired, or will within the notice, and say what will serve."""
    model = route.model
    if model.retires is None or model.retires - today > NOTICE:
        return
    refuses = route.after_retirement is AfterRetirement.REFUSE
    after = serving(route, max(today, model.retires))
    priced = f", at its official price: the one given here is for {model.name}" if route.prices else ""
    if is_retired(model, today):
        # A date that passes must not keep a gateway from starting again: what was retired is replaced or passed over.
        gone = f"{model.name} was shut down on {model.retires}"
        if after is not None:
            report.warn(fields.at("model"), f"{gone}; {after.model.name} serves instead{priced}; name that here")
        elif refuses:
            report.warn(fields.at("model"), f"{gone}, so no request goes here, as after_retirement: refuse says")
        else:
            tell = report.warn if model.prices else report.problem
            tell(fields.at("model"), f"{gone}, so no request goes here, and no replacement is known; remove the route")
        return
    then = (
        f"then {after.model.name} serves instead{priced}"
        if after is not None
        else "then no request goes here, as after_retirement: refuse says"
        if refuses
        else "and no replacement is known, so no request will go here then"
    )
    days = (model.retires - today).days
    report.warn(fields.at("model"), f"{model.name} retires on {model.retires}, in {days} days; {then}")
