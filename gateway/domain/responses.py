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
class TextRates:
    """What a text model's tokens cost, pico-USD each: read, read from its cache, written there, and its own words.

    Reasoning counts as its own words.
    """

    text_in: int
    text_in_cached: int
    text_in_written: int
    text_out: int

    def pico(self, usage: TextUsage) -> int:
        """Pico-USD of so many tokens."""
        plain = usage.tokens_in - usage.cached - usage.written
        paid_in = plain * self.text_in + usage.cached * self.text_in_cached + usage.written * self.text_in_written
        return paid_in + usage.tokens_out * self.text_out


@dataclass(frozen=True, slots=True)
class TextPrice:
    """A text model's price from a date on. Where more than `above` tokens are read, `long` are the rates of all."""

    valid_from: date
    source: str
    rates: TextRates
    above: int = 0
    long: TextRates | None = None

    def rates_of(self, tokens_in: int) -> TextRates:
        """Return the rates of a response that read so many tokens."""
        return self.rates if self.long is None or tokens_in <= self.above else self.long


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
    """Tokens of the text model: all that it read, of them those from its cache and those put there, and its words."""

    tokens_in: int
    cached: int
    tokens_out: int
    written: int = 0


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
        kinds = (0, self.most_in)  # what is written to the cache mostly costs more
        usages = [TextUsage(self.most_in, 0, self.most_out, written) for written in kinds]
        rates = {self.price.rates, self.price.rates_of(self.most_in)}
        return max(money.nano_from_pico(each.pico(usage)) for each in rates for usage in usages)

    def cost(self, usage: TextUsage) -> int:
        """Nano-USD of so many tokens, rounded up once."""
        return money.nano_from_pico(self.price.rates_of(usage.tokens_in).pico(usage))


@dataclass(frozen=True, slots=True)
class Said:
    """What a response says of itself. `calls` counts the image tool's calls, also those without an image.

    `problem` is why the text model's usage cannot be believed, a word of `providers.usage`. `made` are the size and the
    quality of each image, as far as it says them; `searches` what it was billed for of a tool that is not served.
    """

    id: str | None = None
    status: str | None = None
    text: TextUsage | None = None
    calls: int = 0
    problem: str | None = None
    made: tuple[tuple[str | None, str | None], ...] = ()
    searches: int = 0


TOOL = "image_generation"
SERVED_TOOLS = (TOOL, "function", "custom")
"""Tools that a conversation may name: the others of the vendor's own cost what no price here tells."""
SERVED_ITEMS = (
    "message",
    "function_call",
    "function_call_output",
    "custom_tool_call",
    "custom_tool_call_output",
    "image_generation_call",
    "reasoning",
    "compaction",
    "configuration_update",
)
"""What an input may consist of: all that such a conversation says. Others bring in tools, or what nobody here sees."""


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
