"""Log records leave through a bounded queue and a thread, so that a slow reader of the log never slows a request."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import select
import threading
from typing import TextIO

QUEUE_LINES = 10_000


class LogPipe(logging.Handler):
    """Writes each record as one line. When the queue is full a record is dropped and counted, and the count logged.

    An exception that the stream raises (a closed pipe, a full disk) drops that line and is counted as well.
    """

    def __init__(self, stream: TextIO, capacity: int = QUEUE_LINES) -> None:
        super().__init__()
        self._stream = stream
        self._queue: queue.Queue[logging.LogRecord | None] = queue.Queue(capacity)
        self._counting = threading.Lock()
        self._dropped = 0
        self._reported = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """How many lines were lost so far."""
        return self._dropped

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a record; its message and traceback are rendered now, since what they refer to may change."""
        record.msg, record.args = _message(record), None
        if record.exc_info:
            record.exc_text = record.exc_text or logging.Formatter().formatException(record.exc_info)
            record.exc_info = None
        try:
            self._queue.put_nowait(record)
        except queue.Full:
            self._drop()

    def stop(self, patience: float = 2.0) -> None:
        """Write what is queued, for at most `patience` seconds, and end the thread."""
        self._stopping.set()
        with contextlib.suppress(queue.Full):
            self._queue.put_nowait(None)
        self._thread.join(patience)

    def _drop(self) -> None:
        with self._counting:
            self._dropped += 1

    def _run(self) -> None:
        while True:
            record = self._queue.get()
            if record is not None:
                self._write(record)
            self._report_dropped()
            # A full queue had no room for the None that wakes this thread, so the flag counts.
            if self._stopping.is_set() and self._queue.empty():
                return

    def _report_dropped(self) -> None:
        lost = self._dropped - self._reported
        if lost and self._queue.empty():
            self._reported += lost
            record = logging.LogRecord(__name__, logging.WARNING, "", 0, "log lines dropped", None, None)
            record.__dict__["fields"] = {"lines": lost}
            self._write(record)

    def _write(self, record: logging.LogRecord) -> None:
        try:
            self._put(self.format(record) + "\n")
        except (OSError, ValueError, TypeError, RecursionError):
            # A log that cannot be written has nowhere to say so but the count.
            self._drop()

    def _put(self, line: str) -> None:
        try:
            descriptor = self._stream.fileno()
        except (OSError, AttributeError):
            self._stream.write(line)
            self._stream.flush()
            return
        # Past the stream's buffer: its lock, held while a pipe is blocked, would hang the interpreter's exit.
        rest = memoryview(line.encode())
        while rest:
            try:
                rest = rest[os.write(descriptor, rest) :]
            except BlockingIOError:
                select.select([], [descriptor], [], 1.0)


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except (TypeError, ValueError, KeyError):
        # Arguments that do not fit the message must not cost a request its answer.
        return str(record.msg)
