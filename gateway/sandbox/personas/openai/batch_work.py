"""OpenAI's Batch API behind its endpoints: files, and batches that are validated and done line by line, by the clock.

What is done is charged at half the price, line by line, and stays done when a batch expires or is cancelled.
Sources: openai-python batch_create_params.py and batch.py (fields, states, limits), the Batch guide (half price, what
becomes of requests that were not done), openai-openapi (error file lines). How fast it works is not published.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import tempfile
import time
import uuid
import weakref
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Final

from gateway.sandbox.faults import Fault

MOST_REQUESTS: Final = 50_000
MOST_BYTES: Final = 200 * 1000 * 1000
DAY: Final = 86_400
_VALIDATING, _FINALIZING = 0.1, 0.1
"""Shares of a batch's time."""
ENDPOINTS: Final = ("/v1/images/generations", "/v1/images/edits")


@dataclass(slots=True, weakref_slot=True)
class StoredFile:
    """A file of the account's. `bytes` is its length."""

    id: str
    filename: str
    purpose: str
    content: BinaryIO
    bytes: int
    created_at: int

    def as_json(self) -> dict[str, object]:
        """Return it as the API shows it."""
        own = {"id": self.id, "filename": self.filename, "purpose": self.purpose, "bytes": self.bytes}
        return {"object": "file", **own, "created_at": self.created_at, "status": "processed"}


def store(filename: str, purpose: str) -> StoredFile:
    """Return an empty file, to be written and then measured."""
    content = tempfile.TemporaryFile()  # noqa: SIM115 - it is the file's as long as the file is there
    file = StoredFile(f"file-{uuid.uuid4().hex[:24]}", filename, purpose, content, 0, int(time.time()))
    weakref.finalize(file, content.close)
    return file


@dataclass(slots=True)
class Done:
    """What became of one line: its response, or the error in its place."""

    response: dict[str, object] | None
    error: dict[str, object] | None = None
    body: bytes = b""
    """The response's body, as it is."""

    @property
    def succeeded(self) -> bool:
        """Whether it goes into the file of results."""
        return self.response is not None and self.response["status_code"] == 200  # noqa: PLR2004 - success


@dataclass(slots=True)
class Batch:
    """One batch. Times are Unix seconds by what happened."""

    id: str
    file: StoredFile
    endpoint: str
    window: str
    metadata: Mapping[str, object]
    status: str = "validating"
    times: dict[str, int] = field(default_factory=dict)
    errors: list[dict[str, object]] = field(default_factory=list)
    total: int = 0
    completed: int = 0
    failed: int = 0
    output: StoredFile | None = None
    error_file: StoredFile | None = None
    given_up: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def cancelling(self) -> bool:
        """Whether its client wants it no more."""
        return self.given_up.is_set()

    async def pause(self, seconds: float) -> None:
        """Let time go by, until it is given up."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.given_up.wait(), seconds)

    def become(self, status: str) -> None:
        """Go on to a state, and remember when."""
        self.status = status
        self.times[f"{status}_at"] = int(time.time())

    def as_json(self) -> dict[str, object]:
        """Return it as the API shows it."""
        named = ("in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled")
        created = self.times["created_at"]
        return {
            "id": self.id,
            "object": "batch",
            "endpoint": self.endpoint,
            "errors": {"object": "list", "data": self.errors} if self.errors else None,
            "input_file_id": self.file.id,
            "completion_window": self.window,
            "status": self.status,
            "output_file_id": self.output.id if self.output else None,
            "error_file_id": self.error_file.id if self.error_file else None,
            "created_at": created,
            "expires_at": created + DAY,
            **{f"{name}_at": self.times.get(f"{name}_at") for name in named},
            "request_counts": {"total": self.total, "completed": self.completed, "failed": self.failed},
            "metadata": self.metadata or None,
        }


Do = Callable[[str, Mapping[str, Any], Fault | None], Awaitable[Done]]
"""Does one line: its endpoint and body, and the fault of its batch."""


class BatchWork:
    """The files and batches of one account. A batch takes `seconds`, all in all."""

    def __init__(self, seconds: float, do: Do) -> None:
        self._seconds = seconds
        self._do = do
        self.files: dict[str, StoredFile] = {}
        self.batches: dict[str, Batch] = {}
        self._running: set[asyncio.Task[None]] = set()

    def keep(self, file: StoredFile) -> StoredFile:
        """Measure a file that was written, and keep it."""
        file.bytes = file.content.seek(0, 2)
        self.files[file.id] = file
        return file

    def begin(
        self, file: StoredFile, endpoint: str, window: str, metadata: Mapping[str, object], fault: Fault | None
    ) -> Batch:
        """Take a batch on."""
        batch = Batch(f"batch_{uuid.uuid4().hex}", file, endpoint, window, metadata)
        batch.times["created_at"] = int(time.time())
        self.batches[batch.id] = batch
        task = asyncio.create_task(self._run(batch, fault))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return batch

    async def _run(self, batch: Batch, fault: Fault | None) -> None:
        await batch.pause(self._seconds * _VALIDATING)
        lines, batch.errors = await asyncio.to_thread(_validated, batch)
        if fault is not None and fault.name == "batch_refused":
            batch.errors = [_mistake(fault.parameters["code"], fault.parameters["message"], None)]
        if batch.errors:
            batch.become("failed")
            return
        batch.total = len(lines)
        if not batch.cancelling:
            batch.become("in_progress")
        done, expires = 0, len(lines)
        output, errors = (
            store(f"{batch.id}_output.jsonl", "batch_output"),
            store(f"{batch.id}_error.jsonl", "batch_output"),
        )
        if fault is not None and fault.name == "batch_expired":
            expires = len(lines) * int(fault.parameters["percent"]) // 100
        pause = self._seconds * (1 - _VALIDATING - _FINALIZING) / max(len(lines), 1)
        for line in lines[:expires]:
            await batch.pause(pause)
            if batch.cancelling:
                break
            result = await self._do(batch.endpoint, line, fault)
            done += 1
            batch.completed += result.succeeded
            batch.failed += not result.succeeded
            _write(output if result.succeeded else errors, line, result)
        if expires < len(lines) and not batch.cancelling:
            for line in lines[done:]:
                said = "This request could not be executed before the completion window expired."
                _write(errors, line, Done(None, {"code": "batch_expired", "message": said}))
        if not batch.cancelling and expires == len(lines):
            batch.become("finalizing")
        await batch.pause(self._seconds * _FINALIZING)
        batch.output, batch.error_file = self._kept(output), self._kept(errors)
        whole = done == len(lines)
        batch.become("completed" if whole else "cancelled" if batch.cancelling else "expired")

    def _kept(self, file: StoredFile) -> StoredFile | None:
        """Keep a file that has lines; None for one without."""
        return self.keep(file) if file.content.tell() else None

    def clear(self) -> None:
        """Forget all of it, what is under way too."""
        for task in self._running:
            task.cancel()
        self.files.clear()
        self.batches.clear()


def _write(file: StoredFile, line: Mapping[str, Any], done: Done) -> None:
    """Write a line of results; a body of images is put in as it is."""
    head: dict[str, object] = {"id": f"batch_req_{uuid.uuid4().hex}", "custom_id": line["custom_id"]}
    text = json.dumps({**head, "response": done.response, "error": done.error}).encode()
    file.content.write(text.replace(b'"(body)"', done.body, 1) + b"\n" if done.body else text + b"\n")


def _validated(batch: Batch) -> tuple[list[Mapping[str, Any]], list[dict[str, object]]]:
    """Read the lines of a batch, and what is wrong with them."""
    lines: list[Mapping[str, Any]] = []
    mistakes: list[dict[str, object]] = []
    names: set[object] = set()
    models: set[object] = set()
    batch.file.content.seek(0)
    for number, text in enumerate(batch.file.content, 1):
        if not text.strip():
            continue
        try:
            line = json.loads(text)
        except ValueError:
            mistakes.append(_mistake("invalid_json_line", "This line is not parseable as valid JSON.", number))
            continue
        code, message = _mistaken(line, batch.endpoint, names)
        if code:
            mistakes.append(_mistake(code, message, number))
            continue
        names.add(line["custom_id"])
        models.add(line["body"].get("model"))
        lines.append(line)
    if len(models) > 1:
        said = "The provided `model` is not the same for every request of the file."
        mistakes.append(_mistake("mismatched_model", said, None))
    if not lines and not mistakes:
        mistakes.append(_mistake("empty_file", "The input file contains no requests.", None))
    if len(lines) > MOST_REQUESTS or batch.file.bytes > MOST_BYTES:
        mistakes.append(_mistake("too_many_tasks", f"A batch takes {MOST_REQUESTS} requests at most.", None))
    return lines, mistakes


def _mistaken(line: object, endpoint: str, names: set[object]) -> tuple[str, str]:
    if not isinstance(line, dict) or not isinstance(line.get("body"), dict):
        return "invalid_request", "Each line is an object with custom_id, method, url and body."
    if not isinstance(line.get("custom_id"), str):
        return "missing_required_parameter", "Missing required parameter: 'custom_id'."
    if line["custom_id"] in names:
        return "duplicate_custom_id", f"The custom_id '{line['custom_id']}' is used more than once."
    if line.get("method") != "POST":
        return "invalid_method", "The method of every request must be POST."
    if line.get("url") != endpoint:
        return "mismatched_url", f"The url of every request must be the batch's endpoint, '{endpoint}'."
    return "", ""


def _mistake(code: str, message: str, line: int | None) -> dict[str, object]:
    return {"code": code, "message": message, "param": None, "line": line}
