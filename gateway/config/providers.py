"""Providers: accounts at endpoints."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from gateway.config.batch import read_provider_batch
from gateway.config.documents import Value
from gateway.config.durations import duration
from gateway.config.fields import Fields
from gateway.config.lookup import Known
from gateway.config.problems import Report, shown
from gateway.config.profiles import TASK, Preset, check_variables, read_preset_of, read_profile, read_variables
from gateway.config.schema import BARE_KINDS, PROVIDER
from gateway.config.secrets import SecretSources
from gateway.config.sources import Entry
from gateway.config.tiers import read_limits
from gateway.config.values import truth
from gateway.domain.profile import Profile
from gateway.domain.route import ProviderConfig, RouteLimits

_TIMEOUT = 180.0
_CONNECT_TIMEOUT = 5.0
_VERSION = re.compile(r"v[0-9]{1,3}")


def read_provider(
    name: str,
    entry: Entry,
    secret_sources: SecretSources,
    *,
    tiers: Known[RouteLimits],
    presets: Known[Preset],
    report: Report,
) -> ProviderConfig | None:
    """Read one entry of the `providers` section; None if its kind cannot be told. Without an `api_key` none is sent."""
    fields = Fields(entry.node, PROVIDER, report, entry.place)
    timeout = fields.read("timeout", duration) or _TIMEOUT
    connect_timeout = fields.read("connect_timeout", duration) or min(_CONNECT_TIMEOUT, timeout)
    if connect_timeout > timeout:
        report.problem(fields.at("connect_timeout"), f"is longer than timeout ({timeout:g}s)")
    preset, variables = read_preset_of(fields, presets), read_variables(fields)
    profile = read_profile(fields, preset.profile, preset.kind, report)
    check_variables(fields, profile, variables, report)
    base_url = fields.required("base_url", secret_sources.base_url) or ""
    _check_doubled(fields, base_url, profile.generations, report)
    usual = preset.kind not in {TASK, *BARE_KINDS} and profile.generations == Profile().generations
    if usual and fields.node("kind") is not None and fields.node("preset") is None:
        _check_version(fields, base_url, report)
    config = ProviderConfig(
        name=name,
        kind=preset.kind,
        base_url=base_url,
        api_key=fields.read("api_key", secret_sources.secret),
        timeout=timeout,
        connect_timeout=connect_timeout,
        limits=read_limits(fields, tiers),
        profile=profile,
        variables=variables,
        batch=read_provider_batch(fields, preset.kind, report),
        trace_context=fields.read("trace_context", truth) or False,
    )
    return config if preset.kind else None


def _check_doubled(fields: Fields, base_url: str, path: str, report: Report) -> None:
    """Warn of a base URL that ends in what the provider's paths begin with, such as an API's version."""
    first, second = [*path.lstrip("/").split("/"), ""][:2]
    segments = urlsplit(base_url).path.strip("/").split("/")
    if first not in segments:
        return
    tail = segments[segments.index(first) :]
    if len(tail) > 1 and tail[1] != second and not _VERSION.fullmatch(tail[1]):
        return
    ending, node = "/" + "/".join(tail), fields.node("base_url")
    # What is shown is what was written, for the rest may come from outside.
    written = node.text.rstrip("/").removesuffix(ending) if isinstance(node, Value) else ""
    report.warn(
        fields.at("base_url"),
        f"ends in {ending}, and the paths that follow it begin with /{first}: write {shown(written)}",
    )


def _check_version(fields: Fields, base_url: str, report: Report) -> None:
    """Warn of a base URL that is a host alone where none of the paths after it names a version of the API."""
    node = fields.node("base_url")
    if isinstance(node, Value) and base_url and "${" not in base_url and not urlsplit(base_url).path:
        written = shown(f"{node.text.rstrip('/')}/v1")
        report.warn(fields.at("base_url"), f"has no path, and APIs of this kind are mostly found below /v1: {written}")
