"""Conversations that make images: text models and their prices, what policy lets them do, and what an answer says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from gateway.domain import money

ENDED = frozenset({"completed", "failed", "incomplete", "cancelled"})
"""Statuses after which a response does not change any more."""
UNDER_WAY = frozenset({"queued", "in_progress"})


@dataclass(frozen=True, slots=True)
class TextPrice:
    """A text model's price from a date on, pico-USD per token. Reasoning counts as output."""

    valid_from: date
    source: str
    text_in: int
    text_in_cached: int
    text_out: int


@dataclass(frozen=True, slots=True)
class TextModel:
    """A model that leads conversations. `prices` are in order of `valid_from`.

    `context` is the most tokens it reads at once, `image_tokens` the most that one input image takes of it.
    """

    name: str
    context: int
    image_tokens: int
    prices: tuple[TextPrice, ...]

    def price_on(self, day: date) -> TextPrice | None:
        """Return the newest price valid on that day; None if there is none."""
        valid = [price for price in self.prices if price.valid_from <= day]
        return valid[-1] if valid else None


@dataclass(frozen=True, slots=True)
class ResponsesRules:
    """What a job type lets conversations do. `providers` are the accounts, the first model is that of who names none.

    `max_images` and `max_output_tokens` bound one response; `text_only` lets by those that ask for no image.
    """

    providers: tuple[str, ...]
    models: tuple[TextModel, ...]
    max_images: int = 1
    max_output_tokens: int = 4096
    text_only: bool = False


@dataclass(frozen=True, slots=True)
class TextUsage:
    """Tokens of the text model: all that it read, those of them that were cached, and all that it wrote."""

    tokens_in: int
    cached: int
    tokens_out: int


@dataclass(frozen=True, slots=True)
class TextTerms:
    """The text side of a quote: the model, its price row, and the most tokens that it may read and write."""

    model: str
    price: TextPrice
    most_in: int
    most_out: int

    @property
    def worst(self) -> int:
        """The most that it may cost, nano-USD."""
        return self.cost(TextUsage(self.most_in, 0, self.most_out))

    def cost(self, usage: TextUsage) -> int:
        """Nano-USD of so many tokens, rounded up once."""
        return money.nano_from_pico(self.pico(usage))

    def pico(self, usage: TextUsage) -> int:
        """Pico-USD of so many tokens."""
        rates = self.price
        paid_in = (usage.tokens_in - usage.cached) * rates.text_in + usage.cached * rates.text_in_cached
        return paid_in + usage.tokens_out * rates.text_out


@dataclass(frozen=True, slots=True)
class Said:
    """What a response says of itself. `calls` counts the image tool's calls, also those without an image.

    `problem` is why the text model's usage cannot be believed, a word of `providers.usage`.
    """

    id: str | None = None
    status: str | None = None
    text: TextUsage | None = None
    calls: int = 0
    problem: str | None = None


TOOL = "image_generation"
SERVED_TOOLS = (TOOL, "function", "custom")
"""Tools that a conversation may name: the others of the vendor's own cost what no price here tells."""


def image_tools(tools: object) -> list[Mapping[str, Any]]:
    """Return the image tools among a request's `tools`."""
    listed: Sequence[object] = tools if isinstance(tools, list) else ()
    return [tool for tool in listed if isinstance(tool, dict) and tool.get("type") == TOOL]


def most_read(
    model: TextModel, *, text_bytes: int, images: int, made: int, most_out: int, unbounded: bool
) -> tuple[int, int]:
    """Return the most tokens that a response reads and writes.

    The model is asked once, and once more after each call of a tool; each time it reads what came so far, its own words
    and images that were made included, and never more than its window holds. `unbounded` tells that what came before
    is not known here, so that the window alone bounds it.
    """
    once = text_bytes + (images + made) * model.image_tokens + most_out
    each = model.context if unbounded else min(once, model.context)
    return each * (made + 1), most_out
