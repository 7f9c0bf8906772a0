"""Log records leave through a bounded queue and a thread, so that a slow reader of the log never slows a request."""

from __future__ import annotations

import logging
import os
import select
import threading
from collections import deque
from typing import TextIO

QUEUE_LINES = 10_000
TOGETHER_SECONDS = 0.02
"""How long the thread waits for lines that follow others: waking it costs more than most lines do."""
LINES_AT_ONCE = 16
"""Written by one call, and rendered without a break, so that requests are not held up by that for long."""


class LogPipe(logging.Handler):
    """Writes each record as one line. When the queue is full a record is dropped and counted, and the count logged.

    An exception that the stream raises (a closed pipe, a full disk) drops what was written with it, counted as well.
    """

    def __init__(self, stream: TextIO, capacity: int = QUEUE_LINES) -> None:
        super().__init__()
        self._stream = stream
        self._capacity = capacity
        self._queue: deque[logging.LogRecord] = deque()
        self._filled = threading.Event()
        self._woken = False
        self._counting = threading.Lock()
        self._dropped = 0
        self._reported = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def handle(self, record: logging.LogRecord) -> bool:
        """Queue a record that the filters let through, without the handler's lock: the queue needs none."""
        passed = not self.filters or bool(self.filter(record))
        if passed:
            self.emit(record)
        return passed

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a record; its message and traceback are rendered now, since what they refer to may change."""
        if record.args or type(record.msg) is not str:
            record.msg, record.args = _message(record), None
        if record.exc_info:
            record.exc_text = record.exc_text or logging.Formatter().formatException(record.exc_info)
            record.exc_info = None
        self.put(record)

    def put(self, record: logging.LogRecord) -> None:
        """Queue a record that refers to nothing that may change."""
        if len(self._queue) >= self._capacity:
            self._drop()
            return
        self._queue.append(record)
        if not self._woken:
            self._woken = True
            self._filled.set()

    def stop(self, patience: float = 2.0) -> None:
        """Write what is queued, for at most `patience` seconds, and end the thread."""
        self._stopping.set()
        self._filled.set()
        self._thread.join(patience)

    def _drop(self, lines: int = 1) -> None:
        with self._counting:
            self._dropped += lines

    def _run(self) -> None:
        while not (self._stopping.is_set() and not self._queue):
            self._filled.wait()
            self._stopping.wait(TOGETHER_SECONDS)
            if not self._queue:  # nothing came: it rests until something does, and looks by itself till then
                self._filled.clear()
                self._woken = False  # after the event is cleared: what comes in between is written below
            while self._queue:
                self._write([self._queue.popleft() for _ in range(min(len(self._queue), LINES_AT_ONCE))])
            self._report_dropped()

    def _report_dropped(self) -> None:
        lost = self._dropped - self._reported
        if lost and not self._queue:
            self._reported += lost
            record = logging.LogRecord(__name__, logging.WARNING, "", 0, "log lines dropped", None, None)
            record.__dict__["fields"] = {"lines": lost}
            self._write([record])

    def _write(self, records: list[logging.LogRecord]) -> None:
        lines = [line for line in map(self._line, records) if line]
        try:
            self._put("".join(lines))
        except (OSError, ValueError):
            # A log that cannot be written has nowhere to say so but the count.
            self._drop(len(lines))

    def _line(self, record: logging.LogRecord) -> str:
        """Return a record as a line; nothing, and it is counted, if it cannot be one."""
        try:
            return self.format(record) + "\n"
        except (ValueError, TypeError, RecursionError):
            self._drop()
            return ""

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
