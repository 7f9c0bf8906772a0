"""Images of a project: which are stored, for how long, how many bytes of them, and in which format they are given."""

from __future__ import annotations

import re

from gateway.config.documents import Node, Value
from gateway.config.fields import Fields
from gateway.config.problems import Report
from gateway.config.schema import IMAGES
from gateway.config.values import described, one_of, truth
from gateway.domain.policy import ImageRules, Store

_LASTING = re.compile(r"([1-9][0-9]{0,5})(m|h|d)", re.ASCII)
_SECONDS = {"m": 60.0, "h": 3600.0, "d": 86_400.0}
_LONGEST = 90
"""Days."""
_BYTES = re.compile(r"([1-9][0-9]{0,5})(MB|GB|TB)", re.ASCII)
_UNITS = {"MB": 10**6, "GB": 10**9, "TB": 10**12}


def lasting(node: Node, report: Report) -> float | None:
    """A length of time for which something is kept, `30m`, `24h` or `7d`, at most 90 days, in seconds."""
    match = _LASTING.fullmatch(node.text) if isinstance(node, Value) else None
    if match is None:
        report.problem(node.place, f"must be a time such as 30m, 24h or 7d, not {described(node)}")
        return None
    seconds = int(match[1]) * _SECONDS[match[2]]
    if seconds > _LONGEST * _SECONDS["d"]:
        report.problem(node.place, f"must be at most {_LONGEST}d, not {match[0]}")
        return None
    return seconds


def volume(node: Node, report: Report) -> int | None:
    """A number of bytes with its unit, `500MB`, `10GB` or `1TB`, in powers of ten."""
    match = _BYTES.fullmatch(node.text) if isinstance(node, Value) else None
    if match is None:
        report.problem(node.place, f"must be a volume such as 500MB, 10GB or 1TB, not {described(node)}")
        return None
    return int(match[1]) * _UNITS[match[2]]


def read_images(owner: Fields) -> ImageRules:
    """Read the map under `images`; the defaults where it is left out."""
    fields, usual = owner.within("images", IMAGES), ImageRules()
    if fields is None:
        return usual
    store = Store(fields.read("store", one_of(Store)) or usual.store)
    if store is Store.NEVER:
        for key in ("keep", "quota"):
            if fields.node(key) is not None:
                fields.report.problem(fields.at(key), "says nothing where store is never; remove one of the two")
    return ImageRules(
        store=store,
        keep=fields.read("keep", lasting) or usual.keep,
        quota=fields.read("quota", volume),
        convert=fields.read("convert", truth) or False,
    )
