"""JSON logs: one line a request, never a prompt, a key or an image."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, TextIO

from gateway.domain.money import format_usd
from gateway.domain.settlement import CostSource
from gateway.observe.event import (
    CallbackSent,
    Event,
    FellBack,
    HoldEnded,
    LedgerCalled,
    PolicyLoaded,
    RequestFinished,
    RouteEjected,
    UpstreamFailed,
)
from gateway.observe.log_pipe import LogPipe
from gateway.observe.log_text import TextFormatter
from gateway.observe.redact import Redactor

_LOGGER = logging.getLogger("gateway.requests")

_REQUEST_FIELDS = tuple(item.name for item in dataclasses.fields(RequestFinished))
_CLIENT_WORD_CHARS = 64
"""Sizes, qualities and tags are the client's own words; longer ones may be prompts in the wrong place."""

_encode = json.JSONEncoder(separators=(",", ":")).encode
_TALKATIVE = ("asyncio", "httpx", "httpcore", "aiohttp.access", "uvicorn.access")
"""They log a line a request, with URLs."""


class JsonFormatter(logging.Formatter):
    """One JSON object a line: `ts` (RFC 3339, UTC, milliseconds), `level`, `logger`, `event`, then the record's fields.

    Fields come from `extra={"fields": {...}}`. Control characters and everything beyond ASCII are escaped.
    """

    def __init__(self, redactor: Redactor) -> None:
        super().__init__()
        self._redactor = redactor

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its end."""
        line: dict[str, object] = {
            "ts": _timestamp(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": self._redactor.text(record.getMessage()),
        }
        fields = getattr(record, "fields", None)
        if isinstance(fields, dict):
            line |= {str(name): self._redactor.value(value) for name, value in fields.items() if name not in line}
        if record.exc_info and not record.exc_text:
            record.exc_text = self.formatException(record.exc_info)
        if record.exc_text:
            line["exception"] = self._redactor.text(record.exc_text)
        return _encode(line).replace("\x7f", "\\u007f")


def configure_logging(
    level: str, stream: TextIO, secrets: Iterable[str] | Redactor = (), *, text: bool = False
) -> LogPipe:
    """Send all logging of this process through one pipe to `stream`, in place of any handlers there were.

    Lines are JSON, or with `text` for people.

    `level` is a name such as "info"; ValueError if there is no such level. `secrets` are masked word for word;
    a redactor may learn more of them later.
    Call `stop()` on what is returned before the process ends.
    """
    # What lines do not show is not asked for: https://docs.python.org/3/howto/logging.html#optimization
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    pipe = LogPipe(stream)
    redactor = secrets if isinstance(secrets, Redactor) else Redactor(secrets)
    pipe.setFormatter(TextFormatter(redactor) if text else JsonFormatter(redactor))
    root = logging.getLogger()
    root.setLevel(level.upper())
    for handler in list(root.handlers):
        root.removeHandler(handler)
        if isinstance(handler, LogPipe):
            handler.stop()
    root.addHandler(pipe)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.captureWarnings(capture=True)
    return pipe


class LogObserver:
    """An Observer that logs: requests and changes of policy as info, what an operator should look at as warnings."""

    def __init__(self, logger: logging.Logger = _LOGGER) -> None:
        self._logger = logger

    def emit(self, event: Event) -> None:
        """Log one event, if it is worth a line."""
        match event:
            case RequestFinished():
                self._log(logging.INFO, "request", _request_fields(event))
            case UpstreamFailed():
                self._log(logging.WARNING, "upstream failed", {"route": event.route, "reason": event.reason})
            case FellBack():
                routes = {"from": event.from_route, "to": event.to_route}
                self._log(logging.INFO, "fell back", {**routes, "reason": event.reason})
            case RouteEjected():
                self._log(logging.WARNING, "route ejected", {"route": event.route, "seconds": round(event.seconds, 1)})
            case HoldEnded(source=CostSource.PRESUMED):
                self._log(logging.WARNING, "hold presumed spent", _hold_fields(event))
            case CallbackSent(result="failed" | "dead"):
                fields = {"project": event.project, "callback": event.callback_id, "tries": event.tries}
                self._log(logging.WARNING, f"call back {event.result}", {**fields, "error": event.error})
            case LedgerCalled(failed=True):
                milliseconds = _milliseconds(event.seconds)
                self._log(logging.WARNING, "ledger call failed", {"operation": event.operation, "ms": milliseconds})
            case PolicyLoaded(ok=True):
                self._log(logging.INFO, "policy loaded", {"digest": event.digest})
            case PolicyLoaded():
                self._log(logging.ERROR, "policy not loaded, the old one goes on serving", {"digest": event.digest})
            case _:
                pass

    def _log(self, level: int, message: str, fields: Mapping[str, object]) -> None:
        if self._logger.isEnabledFor(level):
            # As `Logger.log` does it, but for who called: that is always this line.
            record = self._logger.makeRecord(self._logger.name, level, "", 0, message, (), None)
            record.fields = fields
            self._logger.handle(record)


def _request_fields(event: RequestFinished) -> dict[str, object]:
    fields: dict[str, Any] = {name: getattr(event, name) for name in _REQUEST_FIELDS}
    fields["duration_ms"] = _milliseconds(fields.pop("duration"))
    fields["overhead_ms"] = _milliseconds(fields.pop("overhead"))
    fields["waited_ms"] = _milliseconds(fields.pop("waited"))
    fields["estimate_usd"] = _usd(fields.pop("estimate"))
    fields["cost_usd"] = _usd(fields.pop("cost"))
    for name in ("size", "quality"):
        fields[name] = fields[name][:_CLIENT_WORD_CHARS]
    short = {key[:_CLIENT_WORD_CHARS]: value[:_CLIENT_WORD_CHARS] for key, value in event.tags.items()}
    fields["tags"] = short
    return fields


def _hold_fields(event: HoldEnded) -> dict[str, object]:
    names = {"project": event.project, "job_type": event.job_type, "route": event.route}
    return {**names, "cost_usd": _usd(event.cost.route)}


def _usd(nano: int | None) -> str | None:
    return None if nano is None else format_usd(nano)


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 3)


def _timestamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
