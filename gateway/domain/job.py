"""What a client asks for, reduced to what prices, capabilities and policy depend on."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import field
from enum import StrEnum
from fractions import Fraction
from functools import lru_cache
from typing import Final

from gateway.domain.record import record

AUTO = "auto"
_OTHER_WORDS = {"jpg": "jpeg"}
JOB_PREFIX = "job:"
"""A model name that starts with it names a job type."""

_SIZE = re.compile(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})", re.ASCII)
_LONGEST_SIZE = len("99999x99999")
_RATIO = re.compile(r"([1-9][0-9]{0,2}):([1-9][0-9]{0,2})", re.ASCII)


class Operation(StrEnum):
    """What is done: the two endpoints that make images, the one the vendor retired, and conversations that make some.

    Whatever goes through to a provider as it is, is none of these.
    """

    GENERATE = "generate"
    EDIT = "edit"
    VARIATION = "variation"
    RESPOND = "respond"
    PASSTHROUGH = "passthrough"


GENERATE: Final = Operation.GENERATE
RESPOND: Final = Operation.RESPOND
"""By themselves: until Python 3.12 to find a member in its class takes as long as a call, or two."""

OF_MODELS = (Operation.GENERATE, Operation.EDIT)
"""What an image model can be able to do, and be asked for."""


@record(frozen=True, slots=True)
class Size:
    """Width and height in pixels."""

    width: int
    height: int

    @classmethod
    def parse(cls, text: str) -> Size | None:
        """Read `WIDTHxHEIGHT` in ASCII digits; None for anything else (`auto`, ratios, typos)."""
        return _size(text) if len(text) <= _LONGEST_SIZE else None

    @property
    def pixels(self) -> int:
        """Width times height."""
        return self.width * self.height

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"


@lru_cache(1024)
def _size(text: str) -> Size | None:
    match = _SIZE.fullmatch(text)
    return Size(int(match[1]), int(match[2])) if match else None


def parse_ratio(text: str) -> Fraction | None:
    """Read a ratio of width to height such as `3:2`; None for anything else."""
    match = _RATIO.fullmatch(text)
    return Fraction(int(match[1]), int(match[2])) if match else None


@record(frozen=True, slots=True)
class Job:
    """One request for images. `size` and `quality` are the vendor's words, `auto` where the client left them out.

    Until a route is found for it, `size` may also be a ratio such as `3:2`.
    """

    operation: Operation
    client_model: str | None
    prompt_chars: int
    prompt_bytes: int
    n: int = 1
    size: str = AUTO
    quality: str = AUTO
    background: str = AUTO
    output_format: str | None = None
    input_fidelity: str | None = None
    mask: bool = False
    references: int = 0
    stream: bool = False
    partial_images: int = 0
    user: str | None = None
    resolution: str | None = None
    """How large a size that is a ratio, or `auto`, is to be: a word of `tiers.RESOLUTIONS`."""
    any_ratio: bool = False
    """Whether the provider chooses the ratio, so that of `size` only the pixels are meant."""
    links: bool = False
    """Whether the answer is to name links to its images, as that of retired models did."""
    dropped: tuple[str, ...] = ()
    """Body fields of old, sent or not: only a route that takes them gets them."""
    mapped: tuple[str, ...] = ()
    """Fields whose value the client never sent, for it stands for a word of old."""
    assumed: tuple[str, ...] = ()
    """Of `mapped`, those that the client left out: what a retired model did then, unless policy says otherwise."""
    retired_model: str | None = None
    """What the client named, where `client_model` is what replaces that by now."""

    @property
    def wanted_format(self) -> str | None:
        """The format that was asked for, by the client or by policy, PNG where nobody said; None where any will do."""
        if not self.output_format:
            return "png"
        word = self.output_format.lower()
        return None if word == AUTO else _OTHER_WORDS.get(word, word)


@record(frozen=True, slots=True)
class Wishes:
    """What the client asks of the gateway itself, by `X-Gateway-*` headers. Money in nano-USD."""

    job_type: str | None = None
    lane: str | None = None
    max_cost: int | None = None
    dry_run: bool = False
    degrade: bool = True
    """False: rather an error than another picture than the one asked for."""
    deadline: float | None = None
    """Seconds after which the client gives up waiting, if its library says so."""
    tags: Mapping[str, str] = field(default_factory=dict)
    respond_async: bool = False
    """Whether it rather has a task at once than the images when they are done."""
    fresh: bool = False
    """Whether it rather has new images than those of an earlier request that was the same."""
    max_wait: float | None = None
    """Seconds that a task may wait before it begins, if the client says so."""
