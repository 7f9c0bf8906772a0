"""What a simulated response is made of: the image tool's calls, the tokens of both models, items and events.

Shapes: openai-python 3.52.0 (types/responses). How many tokens a text model takes is not published: a stand-in that is
never more than there are bytes. A text that contains `[3 images]` lets the model call the tool three times,
`[0 images]` not at all; without it the tool is called once.
"""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway.sandbox.personas.openai.pricing import Tokens, text_tokens
from gateway.sandbox.personas.openai.submission import InputImage
from gateway.sandbox.personas.openai.validation import ImageJob

_WANTED = re.compile(r"\[([0-9]) images?\]")
_WORDS_PER_CALL, _LAST_WORDS = 40, 30
"""Tokens that the text model writes for a call of a tool, and in the end."""
LONG = 272_000
"""Tokens read, beyond which a response costs more with some models."""
_SEEN_AS = 1024
"""Tokens of the text model for an image that it looks at; not published."""


@dataclass(frozen=True, slots=True)
class TextModel:
    """A text model. Rates are pico-USD per token: input, cached input, output.

    `caching` is that of input written to the cache; None for a model that charges nothing for it, and does not tell.
    Such as charge for it charge twice for input, and half more for output, where more than `LONG` tokens are read.
    """

    id: str
    rates: tuple[int, int, int]
    caching: int | None = None


TEXT_MODELS: Mapping[str, TextModel] = {
    "gpt-5.2": TextModel("gpt-5.2", (1_750_000, 175_000, 14_000_000)),
    "gpt-5-mini": TextModel("gpt-5-mini", (250_000, 25_000, 2_000_000)),
    "gpt-5.6-sol": TextModel("gpt-5.6-sol", (5_000_000, 500_000, 30_000_000), caching=6_250_000),
}
"""What these cost is the simulation's own; the vendor's page is not at hand."""


@dataclass(frozen=True, slots=True)
class TextTokens:
    """Tokens of the text model; `read` includes those that were cached, and those `put` into the cache."""

    read: int
    cached: int
    written: int
    put: int = 0

    def pico_usd(self, model: TextModel) -> int:
        """What they cost."""
        fresh, cached, written = model.rates
        paid_in = (self.read - self.cached - self.put) * fresh + self.cached * cached + self.put * (model.caching or 0)
        if model.caching is not None and self.read > LONG:
            return paid_in * 2 + self.written * written * 3 // 2
        return paid_in + self.written * written

    def as_usage(self) -> dict[str, object]:
        """Return the answer's `usage`."""
        return {
            "input_tokens": self.read,
            "input_tokens_details": {"cached_tokens": self.cached, "cache_write_tokens": self.put},
            "output_tokens": self.written,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": self.read + self.written,
        }


@dataclass(slots=True)
class Talk:
    """One response: what was asked, what is made of it, how far it is.

    `request` is the id of the request that began it, which is charged; `before` is what it goes on from.
    """

    model: TextModel
    fields: Mapping[str, Any]
    text: str
    images: list[InputImage]
    jobs: list[ImageJob]
    request: str
    before: Talk | None = None
    tokens: Tokens = field(default_factory=lambda: Tokens(0, 0, 0))
    status: str = "in_progress"
    id: str = field(default_factory=lambda: f"resp_{secrets.token_hex(24)}")
    created: float = field(default_factory=time.time)
    output: list[dict[str, object]] = field(default_factory=list)
    error: dict[str, object] | None = None
    spoiled: str | None = None
    events: list[bytes] = field(default_factory=list)
    over: bool = False

    @property
    def known(self) -> int:
        """Tokens of all that was said before and now."""
        own = text_tokens(self.text) + _SEEN_AS * len(self.images) + 8
        return own + (0 if self.before is None else self.before.known + self.before.written)

    @property
    def written(self) -> int:
        """Tokens that the text model writes."""
        most = self.fields.get("max_output_tokens")
        made = _WORDS_PER_CALL * len(self.jobs) + _LAST_WORDS
        return min(made, most) if isinstance(most, int) else made

    def spent(self, *, whole: bool = True) -> TextTokens:
        """Return the text model's tokens; only those of its first words if it was stopped."""
        calls = len(self.jobs) if whole else 0
        cached = self.known * calls
        read = self.known * (calls + 1) + _WORDS_PER_CALL * calls * (calls + 1) // 2
        put = 0 if self.model.caching is None else self.known
        return TextTokens(read, cached, self.written if whole else _LAST_WORDS, put)

    def document(self) -> dict[str, object]:
        """Return the response as the API shows it."""
        fields = self.fields
        ended = self.status in {"completed", "cancelled", "incomplete"}
        usage = self.spent(whole=self.status != "cancelled").as_usage() if ended else None
        drawn = {"image_gen": self.tokens.as_usage(details=True), "web_search": {"num_requests": 0}}
        tool = drawn if self.output and ended else None
        if self.spoiled in {"no_usage", "no_tool_usage"}:
            usage, tool = (None if self.spoiled == "no_usage" else usage), None
        return {
            "id": self.id,
            "object": "response",
            "created_at": int(self.created),
            "status": self.status,
            "background": bool(fields.get("background")),
            "error": self.error,
            "incomplete_details": None,
            "instructions": fields.get("instructions"),
            "max_output_tokens": fields.get("max_output_tokens"),
            "max_tool_calls": fields.get("max_tool_calls"),
            "metadata": fields.get("metadata") or {},
            "model": self.model.id,
            "output": self.output if ended else [],
            "parallel_tool_calls": True,
            "previous_response_id": fields.get("previous_response_id"),
            "service_tier": fields.get("service_tier") or "auto",
            "store": fields.get("store", True),
            "temperature": 1.0,
            "tool_choice": fields.get("tool_choice") or "auto",
            "tools": fields.get("tools") or [],
            "top_p": 1.0,
            "usage": usage,
            "tool_usage": tool,
        }


def calls_wanted(text: str, most: object) -> int:
    """Return how often the model calls the tool."""
    found = _WANTED.search(text)
    wanted = int(found[1]) if found else 1
    return min(wanted, most) if isinstance(most, int) and not isinstance(most, bool) else wanted


def image_item(job: ImageJob, result: str | None) -> dict[str, object]:
    """Return the item of one call of the tool."""
    return {
        "type": "image_generation_call",
        "id": f"ig_{secrets.token_hex(12)}",
        "status": "completed",
        "action": job.operation,
        "background": job.background,
        "output_format": job.output_format,
        "quality": job.quality,
        "size": job.size,
        "revised_prompt": job.prompt,
        "result": result,
    }


def message_item(text: str) -> dict[str, object]:
    """Return the item of what the model says."""
    part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    own = {"type": "message", "id": f"msg_{secrets.token_hex(12)}", "status": "completed", "role": "assistant"}
    return {**own, "content": [part]}


class Events:
    """Server-sent events with their sequence numbers."""

    def __init__(self) -> None:
        self.chunks: list[bytes] = []

    def add(self, kind: str, **content: object) -> None:
        """Add one event."""
        data = {"type": kind, "sequence_number": len(self.chunks), **content}
        text = json.dumps(data, separators=(",", ":"))
        self.chunks.append(f"event: {kind}\ndata: {text}\n\n".encode())

    def item(self, item: dict[str, object], place: int, partials: Sequence[str]) -> None:
        """Add the events of one item."""
        added = {**item, "status": "in_progress"}
        if item["type"] == "image_generation_call":
            added["result"] = None
        self.add("response.output_item.added", output_index=place, item=added)
        if item["type"] == "image_generation_call":
            told = {"item_id": item["id"], "output_index": place}
            call = "response.image_generation_call"
            self.add(f"{call}.in_progress", **told)
            self.add(f"{call}.generating", **told)
            for index, image in enumerate(partials):
                shown = {name: item[name] for name in ("size", "quality", "background", "output_format")}
                self.add(f"{call}.partial_image", **told, partial_image_index=index, partial_image_b64=image, **shown)
            self.add(f"{call}.completed", **told)
        self.add("response.output_item.done", output_index=place, item=item)
