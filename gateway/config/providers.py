"""Providers: accounts at endpoints."""

from __future__ import annotations

from gateway.config.documents import Node
from gateway.config.fields import Fields
from gateway.config.lookup import Known
from gateway.config.problems import Report, did_you_mean, shown
from gateway.config.schema import PROVIDER, PROVIDER_KINDS
from gateway.config.secrets import Outside
from gateway.config.sources import Entry
from gateway.config.tiers import read_limits
from gateway.config.values import duration, text
from gateway.domain.route import ProviderConfig, RouteLimits

_TIMEOUT = 180.0
_CONNECT_TIMEOUT = 5.0


def read_provider(
    name: str, entry: Entry, outside: Outside, tiers: Known[RouteLimits], report: Report
) -> ProviderConfig:
    """Read one entry of the `providers` section. Without an `api_key` none is sent."""
    fields = Fields(entry.node, PROVIDER, report, entry.place)
    timeout = fields.read("timeout", duration) or _TIMEOUT
    connect_timeout = fields.read("connect_timeout", duration) or min(_CONNECT_TIMEOUT, timeout)
    if connect_timeout > timeout:
        report.problem(fields.at("connect_timeout"), f"is longer than timeout ({timeout:g}s)")
    return ProviderConfig(
        name=name,
        kind=fields.required("kind", _kind) or "",
        base_url=fields.required("base_url", outside.base_url) or "",
        api_key=fields.read("api_key", outside.secret),
        timeout=timeout,
        connect_timeout=connect_timeout,
        limits=read_limits(fields, tiers),
    )


def _kind(node: Node, report: Report) -> str | None:
    kind = text(node, report)
    if kind is None or kind in PROVIDER_KINDS:
        return kind
    available = ", ".join(PROVIDER_KINDS)
    suggestion = did_you_mean(kind, PROVIDER_KINDS)
    report.problem(
        node.place,
        f"kind {shown(kind)} is not available in this version; remove it or use {available}{suggestion}",
    )
    return None
