"""Profiles: how a provider's wire differs from what its kind speaks by default, as data that policy gives.

A profile comes from a preset of the catalog (`presets:`) or of the policy, and from keys of the provider itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import fnmatchcase
from fractions import Fraction

from gateway.domain.job import Operation


@dataclass(frozen=True, slots=True)
class Auth:
    """The header that carries the secret, and what stands before it there."""

    header: str = "Authorization"
    prefix: str = "Bearer "


class Source(StrEnum):
    """What the value of an upstream field is taken from."""

    PROMPT = "prompt"
    MODEL = "model"
    """The route's upstream model."""
    N = "n"
    SIZE = "size"
    """`WIDTHxHEIGHT`; left out where it is `auto`."""
    WIDTH = "width"
    HEIGHT = "height"
    RATIO = "ratio"
    """The nearest of `among`, such as `3:2`."""
    RESOLUTION = "resolution"
    """The first of `tiers` whose pixels suffice."""
    QUALITY = "quality"
    BACKGROUND = "background"
    OUTPUT_FORMAT = "output_format"
    IMAGES = "images"
    """All input images, as a list."""
    IMAGE = "image"
    """The input image of number `number`, from 0 on."""
    MASK = "mask"
    USER = "user"
    CALLBACK = "callback"
    """The URL that the provider may call; left out where there is none."""
    FIELD = "field"
    """The client's own field of the name `client_field`, passed on as it is."""
    CONSTANT = "constant"


class ImageForm(StrEnum):
    """How an input image is told in JSON."""

    URL = "url"
    """An http(s) URL: the client's own, or one under which the gateway keeps it."""
    DATA_URL = "data_url"
    """`data:image/png;base64,...`; a client's http(s) URL stays as it is."""
    BASE64 = "base64"
    """The bytes alone; what the client named by URL is fetched."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One field of an upstream JSON body; dots in `name` lead into objects (`image_size.width`).

    It is left out where the job has no value for it. `operations` are those that send it, empty is all. `values`
    translates words; one that is not among them stays as it is, or is refused if `closed`.
    """

    name: str
    source: Source
    operations: frozenset[Operation] = frozenset()
    masked: bool | None = None
    """Whether it is sent only with a mask, or only without one; None is either way."""
    models: tuple[str, ...] = ()
    """Upstream models that take it, `*` standing for any text; empty is all."""
    values: Mapping[str, str] = field(default_factory=dict)
    closed: bool = False
    among: tuple[str, ...] = ()
    tiers: tuple[tuple[str, int | None], ...] = ()
    number: int = 0
    client_field: str = ""
    constant: object = None
    """Of a constant, its value; of a field, what stands there where the client said nothing."""
    form: ImageForm = ImageForm.DATA_URL
    wrap: str = ""
    """Of images: the path within an object that each is told in, such as `image_url.url`."""
    beside: Mapping[str, object] = field(default_factory=dict)
    """What else stands in that object, such as `{type: image_url}`."""

    def is_sent(self, operation: Operation, masked: bool, upstream_model: str) -> bool:
        """Tell whether it belongs to such a job, with a mask or without."""
        if self.masked is not None and self.masked != masked:
            return False
        if self.models and not any(fnmatchcase(upstream_model, pattern) for pattern in self.models):
            return False
        return not self.operations or operation in self.operations


@dataclass(frozen=True, slots=True)
class Amount:
    """Where an answer tells a number, and what one of it is worth.

    `path` leads into JSON (`usage.cost`), `header` names a header, one of them. `usd` is USD for one (a credit of 1/68
    dollars is exactly that); None for units that the price row prices.
    """

    path: str = ""
    header: str = ""
    usd: Fraction | None = None


@dataclass(frozen=True, slots=True)
class Profile:
    """How an endpoint that speaks like the OpenAI images API differs from it.

    `generations` and `edits` are paths after the base URL, with `{model}` for the upstream model and a query if need
    be; no `edits` means that generations take input images too, in `parameters`. `masked_edits` is where edits with a
    mask go, if that is another path. `query` is added to every URL.
    `parameters` say what JSON is sent in place of the client's own body; empty is the client's own body with fields
    changed. `forms` are the operations that are sent as a form. `drop` are fields of the client's that are left out,
    `rename` those that go by another name, `refuse` those that the provider would misread, with the reason. `reported`
    is where it tells the cost. `blind_usage` means that its usage is no bill (zeros, or another shape).
    `prompt_refuses` are texts that a prompt must not hold, with the reason: the provider would act on them. `lacks` is
    what it cannot do, or says it does and does not, whatever the model: `mask`, `stream`, `edit`. `normalise` means
    that its answers are put into the vendor's shape: links fetched, data URIs taken apart, foreign fields left out.
    """

    auth: Auth = field(default_factory=Auth)
    generations: str = "/images/generations"
    edits: str | None = "/images/edits"
    query: Mapping[str, str] = field(default_factory=dict)
    send_model: bool = True
    parameters: tuple[Parameter, ...] = ()
    forms: frozenset[Operation] = frozenset()
    drop: tuple[str, ...] = ()
    rename: Mapping[str, str] = field(default_factory=dict)
    refuse: Mapping[str, str] = field(default_factory=dict)
    reported: Amount | None = None
    blind_usage: bool = False
    masked_edits: str | None = None
    prompt_refuses: Mapping[str, str] = field(default_factory=dict)
    lacks: frozenset[str] = frozenset()
    normalise: bool = False

    @property
    def plain(self) -> bool:
        """Whether nothing differs: requests go out as the client wrote them, answers as they come."""
        return self == Profile()

    @property
    def reads(self) -> bool:
        """Whether each answer is read to its end: put into shape, or for what it says of the cost."""
        return self.normalise or self.blind_usage or self.reported is not None
