"""Images of a project: which are stored, for how long, how many bytes of them, and in which format they are given."""

from __future__ import annotations

import re

from gateway.config.documents import Node, Value
from gateway.config.durations import keeping
from gateway.config.fields import Fields
from gateway.config.problems import Report
from gateway.config.schema import IMAGES
from gateway.config.values import described, one_of, truth
from gateway.domain.policy import ImageRules, Store

_BYTES = re.compile(r"([1-9][0-9]{0,5})(MB|GB|TB)", re.ASCII)
_UNITS = {"MB": 10**6, "GB": 10**9, "TB": 10**12}


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
        keep=fields.read("keep", keeping) or usual.keep,
        quota=fields.read("quota", volume),
        convert=fields.read("convert", truth) or False,
    )
