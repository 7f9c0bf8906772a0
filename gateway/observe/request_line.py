"""The log line of a request that ended, written all at once: most lines are such, and most say what others said."""

from __future__ import annotations

import re
from collections.abc import Callable
from operator import attrgetter
from typing import Any, Final

from gateway.domain.money import format_usd
from gateway.observe.event import RequestFinished
from gateway.observe.log_text import timestamp
from gateway.observe.masked_json import MaskedJson
from gateway.observe.redact import Redactor

CLIENT_WORD_CHARS: Final = 64
"""Sizes, qualities and tags are the client's own words; longer ones may be prompts in the wrong place."""
_OWN_ID: Final = re.compile(r"req_[0-9a-f]{32}", re.ASCII)
"""Ids that are made here hold no secret."""
_KEPT: Final = 500
_THOUSANDTHS: Final = tuple(f"{number:03d}".rstrip("0") or "0" for number in range(1000))
"""Digits after a point as JSON has them, since making those of a float takes longer than the rest of a line."""

_alike: Callable[[RequestFinished], tuple[Any, ...]] = attrgetter(
    *("operation", "status", "project", "key_id", "job_type", "route", "attempts", "n", "size", "quality", "images"),
    *("source", "code", "client_gone", "replayed", "experiment", "arm"),
)
"""What lines say alike, if there are no tags."""
_BEFORE = (
    '"operation":%s,"status":%d,"project":%s,"key_id":%s,"job_type":%s,"route":%s,"attempts":%d,"n":%d,"size":%s,'
    '"quality":%s,"images":%d,"source":%s,"code":%s,"client_gone":%s,"bytes_out":'
)
_AFTER = ',"replayed":%s,"tags":%s,"experiment":%s,"arm":%s,"duration_ms":'


class RequestLines:
    """Writes such lines; what is alike in many is written once and kept, until the redactor learns of more secrets."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._json = MaskedJson(redactor)
        self._kept: dict[tuple[Any, ...], tuple[str, str]] = {}
        self._word = redactor.quoted_word
        self._levels: dict[str, str] = {}

    def line(self, created: float, logger: str, event: RequestFinished) -> str:
        """Return what `JsonFormatter` makes of the fields of a request; `created` is Unix seconds."""
        before, after = self._written(event) if event.tags else self._alike(event)
        who, duration, overhead = event.request_id, round(event.duration * 1_000_000), round(event.overhead * 1_000_000)
        name = f'"{who}"' if _OWN_ID.fullmatch(who) else self._json.text(who)
        line = (
            f'{{"ts":"{timestamp(created)}{self._levels.get(logger) or self._level(logger)}{name},{before}'
            f"{event.bytes_out}{after}{duration // 1000}.{_THOUSANDTHS[duration % 1000]}"
            f',"overhead_ms":{overhead // 1000}.{_THOUSANDTHS[overhead % 1000]}'
            f',"waited_ms":{_written_milliseconds(event.waited) if event.waited else "0.0"}'
            f',"estimate_usd":{_written_usd(event.estimate)},"cost_usd":{_written_usd(event.cost)}}}'
        )
        return line.replace("\x7f", "\\u007f") if "\x7f" in line else line

    def _level(self, logger: str) -> str:
        """Write what stands between the time and the request's id."""
        written = f'","level":"info","logger":{self._json.name(logger)},"event":"request","request_id":'
        self._levels = {logger: written}
        return written

    def _alike(self, event: RequestFinished) -> tuple[str, str]:
        if self._word is not self._redactor.quoted_word:
            self._word = self._redactor.quoted_word
            self._kept.clear()
        alike = _alike(event)
        found = self._kept.get(alike)
        if found is None:
            found = self._written(event)
            if len(event.size) <= CLIENT_WORD_CHARS and len(event.quality) <= CLIENT_WORD_CHARS:
                if len(self._kept) >= _KEPT:
                    self._kept.clear()
                self._kept[alike] = found
        return found

    def _written(self, event: RequestFinished) -> tuple[str, str]:
        """Write what comes before the length of its answer, and what comes after, up to its times."""
        text, word = self._json.text, self._json.word
        before = _BEFORE % (
            word(event.operation),
            event.status,
            word(event.project),
            word(event.key_id),
            word(event.job_type),
            word(event.route),
            event.attempts,
            event.n,
            text(event.size[:CLIENT_WORD_CHARS]),
            text(event.quality[:CLIENT_WORD_CHARS]),
            event.images,
            word(event.source),
            word(event.code),
            "true" if event.client_gone else "false",
        )
        replayed, tags = "true" if event.replayed else "false", self._json.value(tags_of(event))
        return before, _AFTER % (replayed, tags, word(event.experiment), word(event.arm))


def tags_of(event: RequestFinished) -> dict[str, str]:
    """Return its tags, each word cut to what a line may show."""
    return {key[:CLIENT_WORD_CHARS]: value[:CLIENT_WORD_CHARS] for key, value in event.tags.items()}


def milliseconds(seconds: float) -> float:
    """Return seconds as milliseconds, to the microsecond."""
    return round(seconds * 1_000_000) / 1000


def _written_milliseconds(seconds: float) -> str:
    """Return `milliseconds` as JSON, of a time that is not negative."""
    microseconds = round(seconds * 1_000_000)
    return f"{microseconds // 1000}.{_THOUSANDTHS[microseconds % 1000]}"


def _written_usd(nano: int | None) -> str:
    return "null" if nano is None else f'"{format_usd(nano)}"'
