"""Models, providers and routes: what can be done where, within which limits."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from fractions import Fraction
from typing import NoReturn, Self

from gateway.domain.batch import BatchLine, BatchTerms
from gateway.domain.budget import Candidate, Pressure
from gateway.domain.job import Job, Operation, Size
from gateway.domain.money import times
from gateway.domain.price import Price
from gateway.domain.profile import Profile
from gateway.domain.record import record
from gateway.domain.responses import TextTerms
from gateway.domain.tiers import Tiers


class Secret:
    """A string that cannot be printed by accident; `reveal()` is the only way to it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the secret itself, for the one place that sends it."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, _memo: object) -> Self:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not pickled")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._value.encode(), other._value.encode())

    def __hash__(self) -> int:
        return hash(self._value)


@dataclass(frozen=True, slots=True)
class SizeRule:
    """Sizes a model makes: a fixed list, or any size within bounds (pixels; `max_ratio` is long:short)."""

    fixed: tuple[Size, ...] = ()
    multiple: int = 1
    max_edge: int = 0
    min_pixels: int = 0
    max_pixels: int = 0
    max_ratio: Fraction = Fraction(3)
    tiers: Tiers | None = None
    """Where the model takes a ratio and a resolution: what it makes of a size is then the nearest of those."""

    def refusal(self, size: Size) -> str | None:
        """Say why the size cannot be made, or None if it can."""
        if self.fixed:
            allowed = ", ".join(map(str, self.fixed))
            return None if size in self.fixed else f"size {size} is not one of {allowed}"
        return self._out_of_bounds(size) if self.tiers is None else self.tiers.refusal(size)

    def _out_of_bounds(self, size: Size) -> str | None:
        long, short = max(size.width, size.height), min(size.width, size.height)
        if size.width % self.multiple or size.height % self.multiple:
            return f"size {size}: width and height must be multiples of {self.multiple}"
        if long > self.max_edge:
            return f"size {size}: no edge may be longer than {self.max_edge}"
        if Fraction(long, short) > self.max_ratio:
            return f"size {size}: long to short edge is at most {self.max_ratio}:1"
        if not self.min_pixels <= size.pixels <= self.max_pixels:
            return f"size {size}: {self.min_pixels} to {self.max_pixels} pixels"
        return None


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a model can do; a route may narrow it. `quality` is ordered as the catalog lists it."""

    operations: frozenset[Operation]
    n: int
    references: int
    mask: bool
    transparent: bool
    stream: bool
    quality: tuple[str, ...]
    output_formats: tuple[str, ...]
    sizes: SizeRule
    prompt_chars: int = 32_000


@dataclass(frozen=True, slots=True)
class TokenTier:
    """Output tokens of an image of at most `max_pixels` (None: any size)."""

    name: str
    tokens: int
    max_pixels: int | None


@dataclass(frozen=True, slots=True)
class OutputTokens:
    """Image output tokens by grid (edge length per quality), by table (size, then quality) or by resolution.

    `text` is the most text tokens, thinking included, that come with an image.
    """

    grid: Mapping[str, int] = field(default_factory=dict)
    table: Mapping[Size, Mapping[str, int]] = field(default_factory=dict)
    per_partial_image: int = 0
    by_resolution: tuple[TokenTier, ...] = ()
    """Smallest first."""
    text: int = 0


@dataclass(frozen=True, slots=True)
class Legacy:
    """How requests written for a retired model are understood: words and sizes of old by those that exist now.

    `drop` are body fields that it takes and what replaces it does not. `links` tells that it answered with links to its
    images where the request did not say in which form. `defaults` are the old words of `quality` and `size` that it
    took where the request named none.
    """

    quality: Mapping[str, str] = field(default_factory=dict)
    sizes: Mapping[str, str] = field(default_factory=dict)
    drop: tuple[str, ...] = ()
    links: bool = False
    defaults: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Model:
    """A vendor's model: facts. `prices` are in order of `valid_from`."""

    name: str
    capabilities: Capabilities
    prices: tuple[Price, ...]
    output_tokens: OutputTokens = field(default_factory=OutputTokens)
    input_image_tokens: int = 0
    snapshot: str | None = None
    retires: date | None = None
    replacement: str | None = None
    equivalent_quality: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Which of this model's quality words makes the same picture as another model's: other model, its word, ours."""
    legacy: Legacy | None = None


class AfterRetirement(StrEnum):
    """What becomes of a route once its model has retired."""

    REPLACE = "replace"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class RouteLimits:
    """What the provider lets one account do; None is no limit known."""

    images_per_minute: int | None = None
    images_per_day: int | None = None
    requests_per_minute: int | None = None
    concurrent: int | None = None
    tokens_per_minute: int | None = None


@dataclass(frozen=True, slots=True)
class ProviderConfig:
    """An account at an endpoint. `timeout` (seconds) is the longest wait for an answer's headers and between bytes."""

    name: str
    kind: str
    base_url: str
    api_key: Secret | None
    timeout: float = 180.0
    connect_timeout: float = 5.0
    limits: RouteLimits = field(default_factory=RouteLimits)
    """Of the whole account, all its routes together."""
    profile: Profile = field(default_factory=Profile)
    """How its wire differs from what its kind speaks; a `TaskProfile` where the kind is `task`."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """What policy fills into a preset's paths, such as an account's or a deployment's name."""
    batch: BatchTerms | None = None
    """How it takes batches, if it does."""
    trace_context: bool = False
    """Whether it is told of the trace that a call belongs to."""


@dataclass(frozen=True, slots=True)
class Route:
    """A model as one provider sells it. `prices` are this provider's own; empty means the model's official ones."""

    name: str
    provider: ProviderConfig
    model: Model
    upstream_model: str
    capabilities: Capabilities
    lane: str = "production"
    prices: tuple[Price, ...] = ()
    limits: RouteLimits = field(default_factory=RouteLimits)
    quality_names: Mapping[str, str] = field(default_factory=dict)
    """What this provider calls a quality, where it is not the model's own word."""
    after_retirement: AfterRetirement = AfterRetirement.REPLACE
    successor: Route | None = None
    """What serves instead once the model has retired: the same provider, the model that replaces it."""


@record(frozen=True, slots=True)
class Views:
    """One amount in three views, nano-USD: the vendor's list price, what this route charges, what the project pays."""

    official: int
    route: int
    internal: int

    def __add__(self, other: Views) -> Views:
        return Views(self.official + other.official, self.route + other.route, self.internal + other.internal)

    def __sub__(self, other: Views) -> Views:
        return Views(self.official - other.official, self.route - other.route, self.internal - other.internal)

    def times(self, ratio: Fraction) -> Views:
        """Return each view times a ratio, rounded up to whole nano-USD."""
        return Views(times(self.official, ratio), times(self.route, ratio), times(self.internal, ratio))


NOTHING = Views(0, 0, 0)


@record(frozen=True, slots=True)
class Quote:
    """A job as one route would do it, the worst case of what may be billed, and the price rows that say so.

    `job` is the client's with policy's defaults filled in; `changes` are the body fields that must differ upstream.
    """

    route: Route
    job: Job
    changes: Mapping[str, str | int | None]
    worst: Views
    official_price: Price
    route_price: Price
    expected: int = 0
    """What it will probably cost, nano-USD in the route view."""
    tokens: int = 0
    """Most tokens it may take, for limits of providers; 0 where nobody sells it by tokens."""
    calls: int = 1
    """How many calls make it up, where the route makes fewer images a call than were asked for."""
    as_events: bool = False
    """Whether a whole answer is to be told as the stream of events that the client asked for."""
    pressure: Pressure = field(default_factory=Pressure)
    degraded: Mapping[str, str] = field(default_factory=dict)
    """What policy changed of what was asked for, as the headers and the entry tell it."""
    replaced: str | None = None
    """The retired model that this one stands in for."""
    retired: date | None = None
    """When that one was shut down."""
    text: TextTerms | None = None
    """What the text model of a conversation costs besides; `worst` includes it."""
    batch: BatchLine | None = None
    """If it goes by a batch; its prices are those of batches then."""
    multiplier: Fraction | None = None
    """By what the project's view was held, where that was noted; None: as the project has it."""
    held: tuple[tuple[object, ...], Candidate] | None = field(default=None, init=False, repr=False, compare=False)
    """The candidate that was last made of it, and by which objects: requests that are alike share a quote."""


@record(frozen=True, slots=True)
class Refusal:
    """Why a route was passed over, in words for the caller. `field` is the request field at fault, if one is."""

    route: str
    reason: str
    field: str | None = None
