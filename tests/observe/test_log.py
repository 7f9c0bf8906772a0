from __future__ import annotations

import io
import json
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from typing import Any, TextIO

import httpx
import pytest

from gateway.observe.event import PolicyLoaded, RequestFinished, RequestStarted, UpstreamFailed
from gateway.observe.log import JsonFormatter, LogObserver, configure_logging
from gateway.observe.log_pipe import TOGETHER_SECONDS, LogPipe
from gateway.observe.redact import MAX_CHARS, Redactor
from gateway.observe.request_line import RequestLines
from gateway.providers.outcome import of_status, of_transport
from tests.observe.samples import FINISHED, ONE_OF_EACH, PRESUMED, ROUTE

LINE_LOGGER = logging.getLogger("gateway.test")


@pytest.fixture(autouse=True)
def logging_left_as_it_was() -> Iterator[None]:
    """The root logger has its own handlers and level again after each test."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    for handler in root.handlers:
        if isinstance(handler, LogPipe):
            handler.stop()
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)


def written(act: Callable[[], None], *, level: str = "info", secrets: tuple[str, ...] = ()) -> list[dict[str, object]]:
    """Return the lines that are logged while acting."""
    stream = io.StringIO()
    pipe = configure_logging(level, stream, secrets)
    act()
    pipe.stop()
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def said(message: object, *, secrets: tuple[str, ...] = ()) -> str:
    """Return the event of one line that is logged with the message."""
    (line,) = written(lambda: LINE_LOGGER.info("%s", message), secrets=secrets)
    return str(line["event"])


def test_a_request_is_one_line_with_what_it_cost() -> None:
    """A finished request is logged once, with its names, its money as exact decimals, and its times."""
    (line,) = written(lambda: LogObserver().emit(FINISHED))

    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", str(line.pop("ts")))
    assert line == {
        "level": "info",
        "logger": "gateway.requests",
        "event": "request",
        "request_id": "req_1",
        "operation": "generate",
        "status": 200,
        "duration_ms": 12500.0,
        "overhead_ms": 4.0,
        "waited_ms": 0.0,
        "project": "marketing",
        "key_id": "key_1",
        "job_type": "hero_image",
        "route": ROUTE,
        "attempts": 1,
        "n": 1,
        "size": "1024x1024",
        "quality": "high",
        "experiment": "none",
        "arm": "none",
        "images": 1,
        "estimate_usd": "0.211",
        "cost_usd": "0.21078",
        "source": "usage",
        "code": "",
        "client_gone": False,
        "bytes_out": 1_500_000,
        "replayed": False,
        "tags": {"campaign": "spring"},
    }


@pytest.mark.parametrize(
    "changes",
    [
        {"request_id": "req_" + "0a" * 16},
        {"request_id": "task Bearer sk-12345678", "size": "\x7f\n", "quality": "high\u2028" * 30},
        {"tags": {"sk-12345678": "x" * 100, "a": "\x7f"}, "code": "word-of-the-house"},
        {"estimate": None, "cost": None, "client_gone": True, "replayed": True, "waited": 1.25},
    ],
    ids=["plain", "odd words", "tags", "nothing spent"],
)
def test_the_line_of_a_request_is_that_of_its_fields(changes: dict[str, Any]) -> None:
    """Written all at once it says what its fields say one by one, masked and escaped in the same way."""
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.handle = records.append  # type: ignore[assignment, method-assign]  # nothing but the record is wanted
    LINE_LOGGER.addHandler(handler)
    LINE_LOGGER.setLevel(logging.INFO)
    LogObserver(LINE_LOGGER).emit(replace(FINISHED, **changes))
    LINE_LOGGER.removeHandler(handler)
    LINE_LOGGER.setLevel(logging.NOTSET)
    [record] = records
    plain = logging.makeLogRecord({**record.__dict__, "fields": record.fields})  # type: ignore[attr-defined]  # ours
    formatter = JsonFormatter(Redactor(["word-of-the-house"]))
    assert formatter.format(record) == formatter.format(plain)
    assert "house" not in formatter.format(record)


def plain_record(event: RequestFinished) -> logging.LogRecord:
    """Return a record of a request as any other, with its fields one by one."""
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.handle = records.append  # type: ignore[assignment, method-assign]  # nothing but the record is wanted
    LINE_LOGGER.addHandler(handler)
    LINE_LOGGER.setLevel(logging.INFO)
    LogObserver(LINE_LOGGER).emit(event)
    LINE_LOGGER.removeHandler(handler)
    LINE_LOGGER.setLevel(logging.NOTSET)
    [record] = records
    return logging.makeLogRecord({**record.__dict__, "fields": record.fields})  # type: ignore[attr-defined]  # ours


def test_what_a_line_has_from_an_earlier_one_is_what_it_says_itself() -> None:
    """Lines of requests that differ in one field each, in turns: none has a word of another, nor one learnt later."""
    others: dict[str, object] = {
        "request_id": "req_2",
        "operation": "edit",
        "status": 500,
        "duration": 0.25,
        "overhead": 0.0125,
        "project": "sales",
        "key_id": "key_2",
        "job_type": "banner",
        "route": "other",
        "attempts": 2,
        "n": 2,
        "size": "auto",
        "quality": "low",
        "images": 3,
        "estimate": 1,
        "cost": None,
        "source": "presumed",
        "code": "broken",
        "client_gone": True,
        "bytes_out": 7,
        "replayed": True,
        "tags": {"campaign": "autumn"},
        "experiment": "trial",
        "arm": "new",
        "waited": 1.5,
    }
    unsaved = {"at", "began", "error_type"}
    assert set(others) == {field.name for field in fields(RequestFinished)} - unsaved
    same = replace(FINISHED, tags={})
    redactor = Redactor()
    kept = RequestLines(redactor)
    for secret in ("word-of-the-house", FINISHED.job_type):
        for event in [same, *(replace(same, **{name: value}) for name, value in others.items())] * 2:  # type: ignore[arg-type]  # of each field's own type
            plain = plain_record(event)
            line = JsonFormatter(redactor).format(plain)
            assert kept.line(plain.created, LINE_LOGGER.name, event) == line
        redactor.learn([secret])
    assert FINISHED.job_type not in kept.line(0.0, LINE_LOGGER.name, same)


def test_a_handler_that_is_added_later_hears_of_requests() -> None:
    """The way past the loggers is taken only while the pipe is all that a record comes to, as it came first."""
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.handle = records.append  # type: ignore[assignment, method-assign]  # nothing but the record is wanted
    root = logging.getLogger()

    def act() -> None:
        observer = LogObserver()
        observer.emit(FINISHED)
        root.addHandler(handler)
        observer.emit(FINISHED)
        root.removeHandler(handler)
        [pipe] = root.handlers
        pipe.addFilter(lambda _: False)
        observer.emit(FINISHED)
        pipe.filters.clear()
        pipe.setLevel(logging.WARNING)
        observer.emit(FINISHED)

    assert len(written(act)) == 2
    [record] = records
    assert logging.Formatter("%(levelname)s %(name)s %(message)s").format(record) == "INFO gateway.requests request"


def test_what_an_operator_must_see_is_a_warning() -> None:
    """Failed calls and presumed spending are warnings, a failed reload is an error, a start alone is no line."""

    def act() -> None:
        observer = LogObserver()
        for event in (UpstreamFailed(ROUTE, "reset"), PRESUMED, PolicyLoaded("d", ok=False), RequestStarted("edit")):
            observer.emit(event)

    lines = written(act)

    assert [(line["level"], line["event"]) for line in lines] == [
        ("warning", "upstream failed"),
        ("warning", "hold presumed spent"),
        ("error", "policy not loaded, the old one goes on serving"),
    ]


def test_a_refused_account_is_told_with_what_the_provider_answered() -> None:
    """Its status and its code, which no metric has; a call without an answer has neither. A secret is masked."""
    secret = "sk-of-the-account"
    refused = of_status(401, {}, b'{"error": {"message": "hush", "code": "invalid_api_key"}}')

    def act() -> None:
        observer = LogObserver()
        repeated = of_status(403, {}, json.dumps({"error": {"code": secret}}).encode())
        for failure in (refused, of_transport(httpx.ConnectError("hush")), repeated):
            observer.emit(UpstreamFailed.of(ROUTE, failure))

    lines = [line for line in written(act, secrets=(secret,)) if line["event"] == "upstream failed"]

    told = [tuple(line[name] for name in ("reason", "status", "code")) for line in lines]
    assert told == [("account", 401, "invalid_api_key"), ("connect", None, ""), ("account", 403, "***")]


def test_every_kind_of_event_can_be_logged() -> None:
    """No event makes the observer raise, and every line is JSON."""

    def act() -> None:
        for event in ONE_OF_EACH:
            LogObserver().emit(event)

    lines = written(act)

    assert {line["event"] for line in lines} >= {"request", "fell back", "ledger call failed", "policy loaded"}


def test_the_level_is_obeyed() -> None:
    """At level warning requests are not logged, at an unknown level nothing starts."""
    assert written(lambda: LogObserver().emit(FINISHED), level="warning") == []
    with pytest.raises(ValueError, match="LOUD"):
        configure_logging("loud", io.StringIO())


@pytest.mark.parametrize(
    "secret",
    [
        "igw_live_0123456789abcdefABCDEF",
        "sk-proj-abcdEFGH1234_-xyz",
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLwSw",
        "whsec_ab+cd/efghijkl0123456789==",
        "Bearer abc.def-ghi",
        "authorization: Token 1234567890",
        'api-key": "0123456789abcdef',
        "x-api-key=0123456789abcdef",
        "BEARER\tabcdefgh",
    ],
)
def test_credentials_are_masked_wherever_they_stand(secret: str) -> None:
    """What looks like a credential is masked in messages, fields, field names, arguments and tracebacks."""
    private = secret[-8:]

    def act() -> None:
        LINE_LOGGER.info("told %s and\n%s", secret, {"header": secret})
        LINE_LOGGER.info("fields", extra={"fields": {"a": [secret], "b": {secret: (secret,)}}})
        try:
            raise RuntimeError(f"bad answer: {secret}")
        except RuntimeError:
            LINE_LOGGER.exception("failed")

    lines = written(act)

    assert len(lines) == 3
    assert private not in json.dumps(lines)
    assert "***" in str(lines[0]["event"])
    assert "RuntimeError" in str(lines[2]["exception"])


def test_secrets_known_by_value_are_masked() -> None:
    """A secret of the policy is masked word for word, also where it has no telling shape."""
    assert said("sent 8hG2kQ9z to them", secrets=("8hG2kQ9z",)) == "sent *** to them"


def test_plain_words_are_left_alone() -> None:
    """Names that merely contain a key's prefix stay readable."""
    text = "task-0123456789 used disk-encryption at risk-free rate, desk_top igw"

    assert said(text) == text


def test_images_never_reach_the_log() -> None:
    """Base64 data, with or without its data URL, is replaced."""
    data = "iVBORw0KGgo" + "A7x/" * 400

    assert said(f'{{"b64_json": "{data}"}}') == '{"b64_json": "[image]"}'
    assert said(f"data:image/png;base64,{data} end") == "[image] end"


def test_what_a_client_says_is_cut() -> None:
    """A prompt in the wrong field (size, quality, a tag) is cut to 64 characters, and no line grows without end."""
    prompt = "a very private lighthouse " * 40
    finished = replace(FINISHED, size=prompt, quality=prompt, tags={prompt: prompt})
    (line,) = written(lambda: LogObserver().emit(finished))

    assert len(str(line["size"])) == len(str(line["quality"])) == 64
    assert line["tags"] == {prompt[:64]: prompt[:64]}
    assert len(said("word " * 100_000)) < MAX_CHARS + 10


def test_control_characters_cannot_forge_a_line() -> None:
    """Newlines, escape sequences and other controls are escaped, so that a message stays one line of ASCII."""
    stream = io.StringIO()
    pipe = configure_logging("info", stream)
    LINE_LOGGER.info('one\r\n{"event":"forged"}\x1b[31m\x7f\u2028\x85\x00\ud800')
    pipe.stop()
    raw = stream.getvalue()

    assert raw.count("\n") == 1
    assert all(" " <= letter <= "~" for letter in raw[:-1])
    assert str(json.loads(raw)["event"]).startswith('one\r\n{"event":"forged"}')


def test_arguments_that_do_not_fit_lose_no_line() -> None:
    """A message with the wrong arguments is logged without them."""
    (line,) = written(lambda: LINE_LOGGER.info("%d images", "many"))

    assert line["event"] == "%d images"


def test_values_that_json_lacks_become_text() -> None:
    """Numbers that are not finite and objects of any class are written as masked text, so every line is valid JSON."""
    redactor = Redactor()

    assert redactor.value({"a": float("nan"), "b": {1, 2}, "c": b"sk-0123456789"}) == {
        "a": "nan",
        "b": [1, 2],
        "c": "b'***'",
    }


def test_a_blocked_reader_costs_lines_and_no_time() -> None:
    """With nobody reading, logging never waits; what does not fit is dropped, counted, and the count logged."""
    reader, writer = os.pipe()
    stream = os.fdopen(writer, "w")
    pipe = LogPipe(stream, capacity=50)
    long = "x y " * 200
    for _ in range(5_000):
        pipe.emit(logging.LogRecord("a", logging.INFO, "", 0, long, None, None))
    lost = pipe._dropped

    assert lost > 4_000
    assert b"log lines dropped" in _drained(reader, stream, pipe)
    assert pipe._dropped == lost


def _drained(reader: int, stream: TextIO, pipe: LogPipe) -> bytes:
    """Read the pipe to its end while the log is told to stop."""
    chunks: list[bytes] = []

    def read() -> None:
        while chunk := os.read(reader, 65_536):
            chunks.append(chunk)

    thread = threading.Thread(target=read)
    thread.start()
    pipe.stop(patience=30)
    stream.close()
    thread.join()
    os.close(reader)
    return b"".join(chunks)


def test_a_reader_that_never_comes_does_not_hold_up_the_end() -> None:
    """Stopping gives up after its patience although the pipe is still blocked."""
    reader, writer = os.pipe()
    stream = os.fdopen(writer, "w")
    pipe = LogPipe(stream, capacity=10)
    for _ in range(1_000):
        pipe.emit(logging.LogRecord("a", logging.INFO, "", 0, "x y " * 200, None, None))
    pipe.stop(patience=0.1)
    blocked = pipe._dropped

    assert blocked > 0
    _drained(reader, stream, pipe)


def test_a_reader_that_left_is_no_error() -> None:
    """Once the other end is closed lines are dropped and counted, and the caller notices nothing."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stream:
        pipe = LogPipe(stream)
        pipe.emit(logging.LogRecord("a", logging.INFO, "", 0, "nobody hears this", None, None))
        pipe.stop()

    assert pipe._dropped >= 1


def test_a_pipe_that_takes_nothing_at_once_is_waited_for() -> None:
    """A non-blocking descriptor that is full for a moment loses no line."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    stream = os.fdopen(writer, "w")
    pipe = LogPipe(stream)
    for number in range(2_000):
        pipe.emit(logging.LogRecord("a", logging.INFO, "", 0, f"{number:0100d}", None, None))
    time.sleep(0.05)
    lines = _drained(reader, stream, pipe).splitlines()

    assert [int(line) for line in lines] == list(range(2_000))
    assert pipe._dropped == 0


def test_a_pipe_that_has_rested_is_woken() -> None:
    """Lines are written soon however long none came before, and nobody has to wake it while they keep coming."""
    reader, writer = os.pipe()
    stream = os.fdopen(writer, "w")
    pipe = LogPipe(stream)
    for pause in (0.0, 0.5 * TOGETHER_SECONDS, 10 * TOGETHER_SECONDS, 3 * TOGETHER_SECONDS):
        time.sleep(pause)
        pipe.emit(logging.LogRecord("a", logging.INFO, "", 0, "line", None, None))
        assert os.read(reader, 100) == b"line\n"
    assert _drained(reader, stream, pipe) == b""


def test_configuring_again_replaces_the_pipe() -> None:
    """A second configuration takes over: a line is written once, to the new stream."""
    first, second = io.StringIO(), io.StringIO()
    configure_logging("info", first)
    pipe = configure_logging("info", second)
    LINE_LOGGER.info("hello")
    pipe.stop()

    assert first.getvalue() == ""
    assert second.getvalue().count("hello") == 1
