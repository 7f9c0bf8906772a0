"""Profiled body: what is sent for a job where a profile says how a provider wants it."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.domain.job import Operation
from gateway.domain.profile import Profile
from gateway.ports import Rendered
from gateway.ports.provider import Call, ProviderServices
from gateway.providers.unsupported import unsupported
from gateway.providers.upstream_form import form_of_fields, upstream_form
from gateway.providers.upstream_json import upstream_json

_IMAGE_FIELDS = frozenset({"image", "images", "image_urls", "mask", "markup"})


def path_of(profile: Profile, call: Call) -> str:
    """Return the path that a job is sent to; UpstreamFailure (not sent) if there is none."""
    operation = call.job.operation
    if operation is Operation.GENERATE:
        return profile.generations
    if operation is not Operation.EDIT or "edit" in profile.lacks:
        raise unsupported(f"this route has no endpoint for {operation}")
    if call.body.mask and profile.masked_edits is not None:
        return profile.masked_edits
    return profile.generations if profile.edits is None else profile.edits


async def profiled_body(profile: Profile, call: Call, services: ProviderServices) -> Rendered:
    """Return the body to send; `aclose` it then. UpstreamFailure (not sent) for what the provider would misread."""
    refuse_misread(profile, call)
    as_form = call.job.operation in profile.forms
    if profile.parameters:
        build = upstream_form if as_form else upstream_json
        return await build(call, profile.parameters, services)
    changes = changed_fields(profile, call)
    renamed = _IMAGE_FIELDS & profile.rename.keys()
    if as_form and (call.body.encoding == "json" or renamed):
        fields = {name: value for name, value in call.body.fields.items() if name not in _IMAGE_FIELDS}
        return await form_of_fields(call, {**fields, **changes}, profile.rename, services)
    return call.body.render(changes)


def changed_fields(profile: Profile, call: Call) -> Mapping[str, str | int | None]:
    """Return the fields that differ from the client's: policy's, and those that go by another name or not at all."""
    changes: dict[str, str | int | None] = {"model": call.route.upstream_model, **call.changes}
    if not profile.send_model:
        changes["model"] = None
    changes |= dict.fromkeys(profile.drop)
    for name, other in profile.rename.items():
        value = changes.get(name, call.body.fields.get(name))
        if name not in _IMAGE_FIELDS and isinstance(value, str | int):
            changes |= {name: None, other: value}
        elif other not in profile.rename:  # the client's own field of that name would say unpriced what this one says
            changes.setdefault(other, None)
    return changes


def refuse_misread(profile: Profile, call: Call) -> None:
    """Raise UpstreamFailure (not sent) for what the provider would misread."""
    for name, reason in profile.refuse.items():
        if call.body.fields.get(name) is not None and not _is_left_out(profile, call, name):
            raise unsupported(f"{name}: {reason}")
    if profile.prompt_refuses:
        prompt = str(call.body.fields.get("prompt", "")).casefold()
        for text, reason in profile.prompt_refuses.items():
            if text.casefold() in prompt:
                raise unsupported(f"a prompt with {text!r}: {reason}")


def _is_left_out(profile: Profile, call: Call, name: str) -> bool:
    """Tell whether a field of the client's own is not sent, under whatever name, though nobody refuses it."""
    if name in profile.drop or call.changes.get(name, "") is None:
        return True
    return name in profile.rename.values() and name not in profile.rename and name not in call.changes
