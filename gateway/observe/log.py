"""JSON logs: one line a request, never a prompt, a key or an image."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from operator import attrgetter
from types import MappingProxyType
from typing import Any, TextIO

from gateway.domain.money import format_usd
from gateway.observe.event import (
    CallbackSent,
    Event,
    FellBack,
    HoldEnded,
    LedgerFailed,
    PolicyLoaded,
    RequestFinished,
    RouteEjected,
    TaskRested,
    UpstreamFailed,
)
from gateway.observe.hold_ends import is_unconfirmed
from gateway.observe.log_pipe import LogPipe
from gateway.observe.log_text import TextFormatter, timestamp
from gateway.observe.masked_json import MaskedJson
from gateway.observe.redact import Redactor
from gateway.observe.request_line import CLIENT_WORD_CHARS, RequestLines, milliseconds, tags_of

_LOGGER = logging.getLogger("gateway.requests")

_OTHERWISE = frozenset({"at", "began", "duration", "overhead", "waited", "estimate", "cost", "error_type"})
"""Fields of a request that a line has in other units or forms, under other names."""
_PLAIN_FIELDS = tuple(item.name for item in dataclasses.fields(RequestFinished) if item.name not in _OTHERWISE)
_plain_of = attrgetter(*_PLAIN_FIELDS)

_OWN = frozenset({"ts", "level", "logger", "event"})
_OWN_IN_FAILURE = _OWN | {"exception"}
_TALKATIVE = ("asyncio", "httpx", "httpcore", "aiohttp.access", "uvicorn.access")
"""They log a line a request, with URLs."""


class JsonFormatter(logging.Formatter):
    """One JSON object a line: `ts` (RFC 3339, UTC, milliseconds), `level`, `logger`, `event`, then the record's fields.

    Fields come from `extra={"fields": {...}}`. Control characters and everything beyond ASCII are escaped.
    """

    def __init__(self, redactor: Redactor) -> None:
        super().__init__()
        self._json = MaskedJson(redactor)
        self._lines = RequestLines(redactor)

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its end."""
        if isinstance(record, _RequestRecord) and record.told is None:
            return self._lines.line(record.created, record.name, record.request)
        if record.exc_info and not record.exc_text:
            record.exc_text = self.formatException(record.exc_info)
        name, text, fields = self._json.name, self._json.text, getattr(record, "fields", None)
        level, logger = name(record.levelname.lower()), name(record.name)
        parts = [f'{{"ts":"{timestamp(record.created)}","level":{level},"logger":{logger}']
        parts.append(f'"event":{text(record.getMessage())}')
        if isinstance(fields, dict):
            parts += self._json.members(fields, _OWN_IN_FAILURE if record.exc_text else _OWN)
        if record.exc_text:
            parts.append(f'"exception":{text(record.exc_text)}')
        return (",".join(parts) + "}").replace("\x7f", "\\u007f")


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
        self._alike = logger.makeRecord(logger.name, logging.INFO, "", 0, "request", (), None).__dict__
        self._root = logging.getLogger()
        self._pipe = _pipe_of(logger)
        self._alone = [self._pipe]
        labelled = self._pipe is None or bool(self._pipe.filters)  # by whose request runs now: no other will do
        self.patient: Collection[type[Event]] = frozenset() if labelled else frozenset({RequestFinished})
        """A line says itself when its request ended."""
        self.takers: Mapping[type[Event], Callable[[Any], None]] = MappingProxyType(
            {
                RequestFinished: self._request_finished,
                UpstreamFailed: self._upstream_failed,
                FellBack: self._fell_back,
                TaskRested: self._task_rested,
                RouteEjected: self._route_ejected,
                HoldEnded: self._hold_ended,
                CallbackSent: self._callback_sent,
                LedgerFailed: self._ledger_failed,
                PolicyLoaded: self._policy_loaded,
            }
        )

    def emit(self, event: Event) -> None:
        """Log one event, if it is worth a line."""
        if (take := self.takers.get(type(event))) is not None:
            take(event)

    def _request_finished(self, event: RequestFinished) -> None:
        if self._logger.isEnabledFor(logging.INFO):
            pipe = self._pipe
            if pipe is not None and self._root.handlers == self._alone and not (pipe.filters or pipe.level):
                pipe.put(_OwnRecord(self._logger.name, event))  # which is all that would come of it
            else:
                self._logger.handle(_RequestRecord(self._alike, event))

    def _upstream_failed(self, event: UpstreamFailed) -> None:
        fields = {"route": event.route, "reason": event.reason, "status": event.status, "code": event.code}
        self._log(logging.WARNING, "upstream failed", fields)

    def _fell_back(self, event: FellBack) -> None:
        self._log(logging.INFO, "fell back", {"from": event.from_route, "to": event.to_route, "reason": event.reason})

    def _task_rested(self, event: TaskRested) -> None:
        self._log(logging.DEBUG, "task rests", {"request_id": event.ended.request_id, "code": event.ended.code})

    def _route_ejected(self, event: RouteEjected) -> None:
        self._log(logging.WARNING, "route ejected", {"route": event.route, "seconds": round(event.seconds, 1)})

    def _hold_ended(self, event: HoldEnded) -> None:
        if not event.late and is_unconfirmed(event.source, event.cost):
            self._log(logging.WARNING, "hold presumed spent", _hold_fields(event))

    def _callback_sent(self, event: CallbackSent) -> None:
        if event.result in {"failed", "dead"}:
            fields = {"project": event.project, "callback": event.callback_id, "tries": event.tries}
            self._log(logging.WARNING, f"call back {event.result}", {**fields, "error": event.error})

    def _ledger_failed(self, event: LedgerFailed) -> None:
        fields = {"operation": event.operation, "ms": milliseconds(event.seconds), "refused": event.refused}
        self._log(logging.WARNING, "ledger call failed", fields)

    def _policy_loaded(self, event: PolicyLoaded) -> None:
        if event.ok:
            self._log(logging.INFO, "policy loaded", {"digest": event.digest})
        else:
            message = "policy not loaded, the old one goes on serving"
            self._log(logging.ERROR, message, {"digest": event.digest})

    def _log(self, level: int, message: str, fields: Mapping[str, object]) -> None:
        if self._logger.isEnabledFor(level):
            # As `Logger.log` does it, but for who called, and for what is the same in all these records.
            record = _Record(self._alike, level, message, fields)
            self._logger.handle(record)


def _pipe_of(logger: logging.Logger) -> LogPipe | None:
    """Return the pipe that a logger's records come to by the root, if nothing stands in between."""
    while logger.parent is not None:
        if logger.handlers or logger.filters or logger.disabled or not logger.propagate:
            return None
        logger = logger.parent
    return next((handler for handler in logger.handlers if isinstance(handler, LogPipe)), None)


class _Record(logging.LogRecord):
    """A record that is `alike` others but for its level, its message and its fields."""

    def __init__(self, alike: Mapping[str, object], level: int, message: str, fields: Mapping[str, object]) -> None:
        now = time.time()
        self.__dict__ = {
            **alike,
            "levelno": level,
            "levelname": logging.getLevelName(level),
            "msg": message,
            "created": now,
            "msecs": now % 1 * 1000,
            "fields": fields,
        }


class _RequestRecord(_Record):
    """A record of a request that ended, whose fields are worked out when they are looked at."""

    # What all of them say; handlers of others look for it in `__dict__`, ours does not.
    levelno, levelname, msg, args = logging.INFO, "INFO", "request", ()
    exc_info = exc_text = None
    request: RequestFinished
    told: dict[str, object] | None = None
    """Fields that a filter put in their place."""

    def __init__(self, alike: Mapping[str, object], event: RequestFinished) -> None:
        self.__dict__ = {**alike, "created": event.at, "msecs": event.at % 1 * 1000, "request": event}

    @property
    def fields(self) -> dict[str, object]:
        """What the line tells of the request."""
        return _request_fields(self.request) if self.told is None else self.told

    @fields.setter
    def fields(self, told: dict[str, object]) -> None:
        self.told = told


class _OwnRecord(_RequestRecord):
    """One that nobody but our own formatters will see: it has what they look for."""

    def __init__(self, name: str, event: RequestFinished) -> None:
        self.name = name
        self.created = event.at
        self.request = event

    @property
    def msecs(self) -> float:  # type: ignore[override]  # logging sets it
        """Milliseconds of its second, which other formatters ask for."""
        return self.created % 1 * 1000


def _request_fields(event: RequestFinished) -> dict[str, object]:
    fields: dict[str, Any] = dict(zip(_PLAIN_FIELDS, _plain_of(event), strict=True))
    fields["source"] = str(event.source)
    fields["duration_ms"] = milliseconds(event.duration)
    fields["overhead_ms"] = milliseconds(event.overhead)
    fields["waited_ms"] = milliseconds(event.waited)
    fields["estimate_usd"] = _usd(event.estimate)
    fields["cost_usd"] = _usd(event.cost)
    fields["size"] = event.size[:CLIENT_WORD_CHARS]
    fields["quality"] = event.quality[:CLIENT_WORD_CHARS]
    fields["tags"] = tags_of(event)
    return fields


def _hold_fields(event: HoldEnded) -> dict[str, object]:
    names = {"project": event.project, "job_type": event.job_type, "route": event.route}
    return {**names, "cost_usd": _usd(event.cost.route)}


def _usd(nano: int | None) -> str | None:
    return None if nano is None else format_usd(nano)
