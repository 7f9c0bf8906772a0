"""Egress: what callers' URLs may lead to beyond public addresses."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network

from gateway.config.documents import Node
from gateway.config.fields import Fields
from gateway.config.problems import Report, shown
from gateway.config.schema import EGRESS
from gateway.config.values import listed, text
from gateway.domain.addresses import METADATA, Egress, Network, forbidden, parse_entry

_WIDE_V4, _WIDE_V6 = 8, 7
"""Prefixes that are shorter open more than any private network there is."""


def read_egress(nodes: Iterable[Node], report: Report) -> Egress:
    """Read the `egress` sections of all files, as one."""
    entries = [entry for node in nodes for entry in Fields(node, EGRESS, report).read("allow", listed(_entry)) or ()]
    return Egress(
        networks=tuple(entry for entry in entries if isinstance(entry, IPv4Network | IPv6Network)),
        hosts=frozenset(entry for entry in entries if isinstance(entry, tuple)),
    )


def _entry(node: Node, report: Report) -> Network | tuple[str, int | None] | None:
    word = text(node, report)
    if word is None:
        return None
    try:
        entry = parse_entry(word)
    except ValueError as error:
        report.problem(node.place, f"{shown(word)} {error}")
        return None
    if not isinstance(entry, tuple) and entry.num_addresses == 1 and forbidden(entry[0]) == METADATA:
        report.warn(node.place, f"{shown(word)} stays closed: no entry opens a cloud's metadata service")
    if not isinstance(entry, tuple) and entry.prefixlen < (_WIDE_V4 if entry.version == 4 else _WIDE_V6):  # noqa: PLR2004 - the version's name
        report.warn(node.place, f"{shown(word)} opens more than any one network inside: callers may reach all of it")
    return entry
