"""Profiles: how a provider's wire differs, from a preset by name and from keys of the provider itself."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from gateway.config.documents import Kind, Node, Value
from gateway.config.fields import Fields
from gateway.config.lookup import Known
from gateway.config.parameters import OPERATIONS, read_parameters
from gateway.config.problems import Report, did_you_mean, shown
from gateway.config.schema import AUTH, BARE_KINDS, PRESET, PROFILE, PROVIDER_KINDS, REPORTED
from gateway.config.sources import Entry
from gateway.config.task_profiles import exact, path, read_task_profile
from gateway.config.values import described, header_name, listed, matching, one_of, text, truth
from gateway.domain.job import Operation
from gateway.domain.profile import Amount, Auth, Profile
from gateway.domain.route import Capabilities
from gateway.domain.task_profile import TaskProfile

TASK: Final = "task"
LACKS: Final = ("edit", "mask", "stream")

_READ_BY = {kind: frozenset(PROFILE) - {"task"} for kind in PROVIDER_KINDS} | {
    TASK: frozenset(
        {"auth", "generations", "edits", "masked_edits", "query", "parameters", "reported", "lacks", "task"}
    ),
    **dict.fromkeys(BARE_KINDS, frozenset({"auth", "lacks"})),
}
"""Which keys of a profile each kind goes by."""
_FRAMING = ("connection", "expect", "host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade")
_CONTENT = ("accept", "accept-encoding", "content-encoding", "content-length", "content-type")
_OWN_HEADERS = frozenset({*_FRAMING, *_CONTENT, "user-agent", "x-client-request-id"})
"""Headers that a request needs for itself: a secret in the place of one would break every request."""
_PATH = re.compile(r"/([A-Za-z0-9._~/?=&:@%+-]|\{[a-z0-9_]+\})*", re.ASCII)
_VARIABLE = re.compile(r"\{([^{}]*)\}")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}", re.ASCII)
_MODEL, _DEPLOYMENT = "model", "deployment"


@dataclass(frozen=True, slots=True)
class Preset:
    """A profile under a name, and the kind that goes by it."""

    kind: str
    profile: Profile


def read_preset(_: str, entry: Entry, report: Report) -> Preset | None:
    """Read one entry of the `presets` section; None if its kind cannot be told."""
    fields = Fields(entry.node, PRESET, report, entry.place)
    kind = fields.required("kind", read_kind)
    if kind is None:
        return None
    return Preset(kind, read_profile(fields, Profile(), kind, report))


def read_kind(node: Node, report: Report, presets: Iterable[str] = ()) -> str | None:
    """Read the wire format that a provider speaks; one of these presets named in its place is told as such."""
    kind = text(node, report)
    if kind is None or kind in PROVIDER_KINDS:
        return kind
    if meant := sorted(name for name in presets if name == kind or name.startswith(f"{kind}-")):
        report.problem(node.place, f"{shown(kind)} is no kind: write preset: {' or '.join(meant)} in its place")
        return None
    available = ", ".join(PROVIDER_KINDS)
    suggestion = did_you_mean(kind, PROVIDER_KINDS)
    report.problem(
        node.place,
        f"kind {shown(kind)} is not available in this version; remove it or use {available}{suggestion}",
    )
    return None


def read_preset_of(fields: Fields, presets: Known[Preset]) -> Preset:
    """Read `kind` and `preset` of a provider, one of which must be there, as the preset that they name together."""
    kind = fields.read("kind", lambda node, report: read_kind(node, report, presets.things))
    preset = fields.read("preset", presets.find)
    if fields.lacks("kind", "preset"):
        fields.report.problem(fields.place, "kind is missing: name it, or a preset")
    if preset is None:
        return Preset(kind or "", Profile())
    if kind is not None and kind != preset.kind:
        fields.report.problem(fields.at("kind"), f"is not the preset's, which is {preset.kind}; leave it out")
    return preset


def read_profile(fields: Fields, base: Profile, kind: str, report: Report) -> Profile:
    """Read the keys of a profile; what they leave out is as `base` says."""
    for key in PROFILE:
        if fields.node(key) is not None and key not in _READ_BY.get(kind, frozenset(PROFILE)):
            report.problem(fields.at(key), f"means nothing where the kind is {kind}")
    _check_rewriting(fields, base, report)
    forms = fields.read("forms", OPERATIONS)
    lacks = fields.read("lacks", listed(one_of(LACKS)))
    read: dict[str, Any] = {
        "auth": _auth(fields, base.auth),
        **{key: fields.read(key, _path) for key in ("generations", "edits", "masked_edits")},
        **{key: fields.read(key, truth) for key in ("send_model", "blind_usage", "normalise")},
        **{key: _texts(fields, key) for key in ("query", "rename", "refuse", "prompt_refuses")},
        "parameters": read_parameters(fields),
        "forms": None if forms is None else frozenset(Operation(each) for each in forms),
        "drop": fields.read("drop", listed(text)),
        "lacks": None if lacks is None else frozenset(lacks),
        "reported": _reported(fields),
    }
    profile = dataclasses.replace(base, **{name: value for name, value in read.items() if value is not None})
    if fields.node("drop") is not None:
        _check_dropped(fields, profile, report)
    return read_task_profile(fields, profile, report) if kind == TASK else profile


def _check_rewriting(fields: Fields, base: Profile, report: Report) -> None:
    """Report what rewrites the client's body beside parameters, which make another one in its place."""
    own = fields.node("parameters") is not None
    if not own and not base.parameters:
        return
    whose = "parameters" if own else "the preset's parameters"
    for key in ("drop", "rename"):
        if fields.node(key) is not None:
            report.problem(
                fields.at(key),
                f"does not go with {whose}, which list all that is sent: leave it out, and say it there",
            )


def _check_dropped(fields: Fields, profile: Profile, report: Report) -> None:
    """Warn of fields left out without which nothing can be made of a request."""
    if "prompt" in profile.drop:
        report.warn(fields.at("drop"), "leaves out the prompt, so the provider never gets it")
    paths = (profile.generations, profile.edits or "", profile.masked_edits or "")
    named = {name for path in paths for name in _VARIABLE.findall(path)} & {_MODEL, _DEPLOYMENT}
    if "model" in profile.drop and profile.send_model and not named:
        report.warn(
            fields.at("drop"),
            "leaves out the model, and no path names it: where the provider wants none, write send_model: false",
        )


def check_variables(fields: Fields, profile: Profile, variables: Mapping[str, str], report: Report) -> None:
    """Report what a profile's paths leave open; a deployment has the upstream model's name unless policy says."""
    paths = [profile.generations, profile.edits or "", profile.masked_edits or "", *profile.query.values()]
    own = {_MODEL}
    if isinstance(profile, TaskProfile):
        paths += profile.urls.values()
        own |= {"id"}
    wanted = {name for each in paths for name in _VARIABLE.findall(each)} - own
    given = {name for name, _ in fields.entries("variables")}  # one that cannot be read was reported
    for name in sorted(wanted - given - {_DEPLOYMENT}):
        report.problem(fields.at("variables"), f"variables.{name} is missing: the provider's paths need it")
    for name in sorted(variables.keys() - wanted):
        report.problem(fields.at("variables"), f"nothing asks for {shown(name)}{did_you_mean(name, wanted)}")


def read_variables(fields: Fields) -> dict[str, str]:
    """Read `variables`: what policy fills into a preset's paths."""
    found = {}
    for name, node in fields.entries("variables"):
        value = text(node, fields.report)
        if not _NAME.fullmatch(name) or name == _MODEL:
            fields.report.problem(node.place, f"{shown(name)} is no name of a variable, such as deployment")
        elif value is not None:
            found[name] = value
    return found


def within(capabilities: Capabilities, profile: Profile) -> Capabilities:
    """Return what is left of a model's capabilities at a provider, whatever the model can do elsewhere."""
    if not profile.lacks:
        return capabilities
    operations = capabilities.operations - ({Operation.EDIT} if "edit" in profile.lacks else set())
    return dataclasses.replace(
        capabilities,
        operations=operations,
        mask=capabilities.mask and not profile.lacks & {"mask", "edit"},
        stream=capabilities.stream and "stream" not in profile.lacks,
    )


def _auth(fields: Fields, base: Auth) -> Auth | None:
    inner = fields.within("auth", AUTH)
    if inner is None:
        return None
    header = inner.read("header", _free_header)
    prefix = inner.read("prefix", _prefix)
    # A header of another name carries the secret alone, unless a prefix is said.
    return Auth(header or base.header, prefix if prefix is not None else "" if header else base.prefix)


def _free_header(node: Node, report: Report) -> str | None:
    """Read the name of a header that nothing else of a request stands in."""
    name = header_name(node, report)
    if name is not None and name.lower() in _OWN_HEADERS:
        report.problem(node.place, f"{shown(name)} is needed by every request itself: name another header")
        return None
    return name


def _prefix(node: Node, report: Report) -> str | None:
    if not isinstance(node, Value) or node.kind not in {Kind.QUOTED, Kind.WORD}:
        report.problem(node.place, f'must be text such as "Bearer ", not {described(node)}')
    elif not (node.text.isascii() and node.text.isprintable()):
        report.problem(node.place, f"{shown(node.text)} has other than printable ASCII in it: no header can carry that")
    else:
        return node.text
    return None


def _reported(fields: Fields) -> Amount | None:
    inner = fields.within("reported", REPORTED)
    if inner is None:
        return None
    where = inner.read("path", path) or ""
    header = inner.read("header", header_name) or ""
    if bool(where) == bool(header):
        inner.report.problem(inner.place, "needs path or header, one of them")
    return Amount(path=where, header=header.lower(), usd=inner.read("usd", exact))


def _texts(fields: Fields, key: str) -> dict[str, str] | None:
    if fields.node(key) is None:
        return None
    found = {name: text(node, fields.report) for name, node in fields.entries(key)}
    return {name: value for name, value in found.items() if value is not None}


_path = matching(_PATH.fullmatch, "a path after base_url, such as /images/generations")
