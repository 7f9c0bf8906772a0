"""Reading responses: pick id, status, usage of the text model and of the image tool out of an answer as it goes by.

A response is `{id, status, output: [items], usage: {input_tokens, input_tokens_details: {cached_tokens,
cache_write_tokens}, output_tokens, total_tokens}, tool_usage: {image_gen: {…}, web_search: {num_requests}}}`; events
carry it whole where it begins and where it ends. Image items are `{type: image_generation_call, status, result, size,
quality, output_format}`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from gateway.domain.responses import ENDED, Said, TextUsage
from gateway.domain.settlement import Reading
from gateway.providers.logprobs import WithoutLogprobs
from gateway.providers.outcome import error_code
from gateway.providers.reading import DocumentReader, EventReader, words
from gateway.providers.usage import CONTRADICTORY, LARGEST, MALFORMED, MISSING, read_usage

MOST_KEPT = 1024 * 1024
"""Bytes of an elided response that are kept: it repeats instructions, tools and what was said."""

ZERO_INPUT = "zero_input"
"""The problem of a text model's usage that says that it read nothing."""

_CALL = "image_generation_call"
_LONGEST_ID = 200


class ResponseDocument(DocumentReader):
    """Reads one response."""

    most_kept = MOST_KEPT

    def __init__(self) -> None:
        super().__init__()
        self._elider, self._kept = WithoutLogprobs(), bytearray()

    def interpret(self, document: Mapping[str, object]) -> Reading:
        """Return what a whole response says."""
        return replace(read_response(document), complete=True)


class ResponseEvents(EventReader):
    """Reads the events of one response; those that carry it whole say what is known of it."""

    most_kept = MOST_KEPT

    def __init__(self) -> None:
        super().__init__()
        self._elider = WithoutLogprobs(lines=True)

    def reading(self) -> Reading:
        """Return what the events said so far; of one too long to be read nobody knows what it became of."""
        reading = super().reading()
        if not reading.unread or reading.said is None:
            return reading
        return replace(reading, said=replace(reading.said, status=None))

    def interpret(self, document: Mapping[str, object], kind: str, name: str) -> None:
        """Take what one event says."""
        response = document.get("response")
        if isinstance(response, dict):
            reading = read_response(response)
            ended = reading.said is not None and reading.said.status in ENDED
            if ended:
                self.conclude(replace(reading, complete=True))
                self._done = True  # nothing follows it: how the connection ends says no more
            else:
                self.note(reading)
        elif kind == "error" or name == "error" or (document.get("error") is not None and not kind):
            self.conclude(replace(self.reading(), error=error_code(document.get("error") or document)))


def read_response(document: Mapping[str, object]) -> Reading:
    """Return what a response says of itself, its images and both usages; what cannot be believed is left out."""
    output = document.get("output")
    items = [item for item in output if isinstance(item, dict)] if isinstance(output, list) else []
    calls = [item for item in items if item.get("type") == _CALL]
    made = [item for item in calls if isinstance(item.get("result"), str) and item["result"]]
    text = _text_usage(document.get("usage"))
    tool = document.get("tool_usage")
    reported = tool.get("image_gen") if isinstance(tool, dict) else None
    counted = read_usage(reported, images=len(made))  # also where no call is listed: it was billed all the same
    usage = None if isinstance(counted, str) and not calls else counted
    size, quality, output_format = words(made[-1] if made else {})
    (status,) = words(document, ("status",))
    if isinstance(text, TextUsage) and status == "completed" and not text.tokens_in:
        text = ZERO_INPUT  # every response reads at least its prompt
    named, error = _id(document.get("id")), document.get("error")
    searched = tool.get("web_search") if isinstance(tool, dict) else None
    return Reading(
        usage=None if isinstance(usage, str) else usage,
        usage_problem=usage if isinstance(usage, str) else None,
        size=size,
        quality=quality,
        output_format=output_format,
        images=len(made),
        error=None if error is None else error_code(error),
        said=None
        if named is None and status is None  # an error, or nothing at all
        else Said(
            id=named,
            status=status,
            text=None if isinstance(text, str) else text,
            calls=len(calls),
            problem=text if isinstance(text, str) else None,
            made=tuple((each[0], each[1]) for each in map(words, made)),
            searches=_count(searched.get("num_requests")) if isinstance(searched, dict) else 0,
        ),
    )


def _id(value: object) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= _LONGEST_ID else None


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= LARGEST else 0


def _text_usage(reported: object) -> TextUsage | str:
    """Return the text model's tokens, or why they cannot be believed."""
    if reported is None:
        return MISSING
    if not isinstance(reported, dict):
        return MALFORMED
    details = reported.get("input_tokens_details")
    cached = details.get("cached_tokens", 0) if isinstance(details, dict) else 0
    kept = details.get("cache_write_tokens", 0) if isinstance(details, dict) else 0
    counts = (reported.get("input_tokens"), cached or 0, reported.get("output_tokens"), kept or 0)
    if not all(isinstance(count, int) and not isinstance(count, bool) and 0 <= count <= LARGEST for count in counts):
        return MALFORMED
    read, cached, written, kept = (int(str(count)) for count in counts)
    total = reported.get("total_tokens")
    if cached + kept > read or (total is not None and total != read + written):
        return CONTRADICTORY
    return TextUsage(read, cached, written, kept)
