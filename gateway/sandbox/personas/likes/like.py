"""Like: what one provider does differently, as data and a few functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

GENERATE, EDIT = "generate", "edit"
Fields = Mapping[str, Any]


class Refused(Exception):
    """An error answer: its status, words, and what only some providers say."""

    def __init__(self, status: int, message: str, code: object = None, **more: object) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.more = more


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be made; sizes in pixels."""

    operation: str
    model: str
    prompt: str
    n: int
    width: int
    height: int
    quality: str
    output_format: str
    response_format: str

    @property
    def size(self) -> str:
        """`WIDTHxHEIGHT`."""
        return f"{self.width}x{self.height}"


@dataclass(frozen=True, slots=True)
class Made:
    """What was made: base64 of each image, a link to each, and the charge in `unit`s of the provider."""

    job: Job
    images: Sequence[str]
    links: Sequence[str]
    charge: int
    withheld: bool = False


@dataclass(frozen=True, slots=True)
class Like:
    """A provider. `paths` are by what is done: `generate`, `edit`, `masked`; `fields` what each of them takes.

    `units_per_image` are what it charges, but for models in `prices`; `units_per_usd` what they are worth. `answer` and
    `error` write bodies.
    `strict` refuses fields that it does not know; others ignore them. `check` refuses what only it refuses.
    """

    name: str
    paths: Mapping[str, str]
    fields: Mapping[str, frozenset[str]]
    answer: Callable[[Made], dict[str, Any]]
    error: Callable[[Refused], Any]
    units_per_image: int
    units_per_usd: int
    form: bool = True
    strict: bool = True
    key: bool = True
    output_format: str = "png"
    response_formats: tuple[str, ...] = ("b64_json",)
    moderation_status: int = 400
    withholds: bool = False
    check: Callable[[str, Fields], None] = field(default=lambda _operation, _fields: None)
    size: Callable[[Fields], tuple[int, int] | None] = field(default=lambda _: None)
    prices: Mapping[str, Callable[[Job], int]] = field(default_factory=dict)

    def units(self, job: Job) -> int:
        """What an image is charged, in units."""
        price = self.prices.get(job.model)
        return self.units_per_image if price is None else price(job)

    def nano_usd(self, made: Made) -> int:
        """What the images of one request cost, rounded up once."""
        return -(-made.charge * 10**9 // self.units_per_usd)
