"""Failpoints: places at which a test lets a gateway die, freeze or fail. Off unless the environment says otherwise.

`IMAGE_GATEWAY_FAILPOINT=NAME:ACTION[:WHEN]`, read once when the process starts. WHEN is a whole number (the nth time
the place is reached, once) or a probability with a point in it (each time); without it, every time.
"""

from __future__ import annotations

import logging
import os
import random
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

log = logging.getLogger(__name__)

VARIABLE = "IMAGE_GATEWAY_FAILPOINT"

NAMES: Mapping[str, str] = {
    "received": "the head of a request is in; nothing of it is known yet",
    "body_read": "its body is in and validated, its routes are priced and ranked; nothing is held",
    "task_added": "a task is in the queue and its money is held; its client knows nothing of it",
    "task_taken": "a worker has a task; nothing is held for its call and nothing has left for the provider",
    "task_begun": "the queue knows that a task's call is about to leave",
    "task_submitted": "the queue knows what a provider has taken on for a task, or is about to be given in a batch",
    "batch_joined": "a request is a line of a batch that is still open; the queue and the store know of it",
    "batch_creating": "a batch's file is uploaded and the store knows it; the provider is about to hear of the batch",
    "batch_created": "the provider has a batch; the store does not know its id",
    "before_task_end": "a task's answer is kept and its money is booked; the queue knows nothing of its end",
    "before_hold": "the hold is about to be asked for",
    "after_hold": "the store has the hold; nothing has left for the provider",
    "before_send": "the call is about to leave; from here on it may be billed",
    "answer_begun": "the provider's status line is in",
    "mid_answer": "some bytes of the answer are in, and there may be more",
    "answer_read": "the answer is read to its end; the store knows nothing of it",
    "before_settle": "the settlement is about to be given to the store",
    "after_settle": "the store, or the journal, has the settlement; the client has not its last bytes",
    "before_last_byte": "the last bytes of the answer are about to be given to the client",
    "after_last_byte": "the last bytes are on their way to the client; nothing is left to do",
    "journal_written": "the store was away and the settlement is on disk; nothing else has happened to it",
    "before_void": "a hold of which nothing can have been billed is about to be given back",
    "after_void": "the store, or the journal, has it given back; the client has no answer yet",
}
"""Every failpoint, in the order of a request's way, with what is true where it stands."""


class Action(StrEnum):
    """What happens there."""

    KILL = "kill"
    """The process is gone at once, as by SIGKILL or a lack of memory."""
    FREEZE = "freeze"
    """The process stops until SIGCONT, as on a machine that is suspended."""
    RAISE = "raise"
    """FailpointReached is raised, as a fault of the code would be."""


class FailpointReached(RuntimeError):
    """Raised at a failpoint whose action is `raise`."""


@dataclass(slots=True)
class Failpoint:
    """A place that is armed. `nth` counts from 1; where it is None `probability` (0 to 1) decides each time."""

    name: str
    action: Action
    nth: int | None = None
    probability: float = 1.0
    passed: int = 0

    def strike(self) -> None:
        """Do what is to be done, if it is time."""
        self.passed += 1
        due = random.random() < self.probability if self.nth is None else self.passed == self.nth  # noqa: S311 - no secret
        if not due:
            return
        match self.action:
            case Action.KILL:
                os.kill(os.getpid(), signal.SIGKILL)
            case Action.FREEZE:
                os.kill(os.getpid(), signal.SIGSTOP)
            case Action.RAISE:
                raise FailpointReached(f"failpoint {self.name}")


def parse(text: str) -> Failpoint:
    """Return the failpoint that a text describes; ValueError says what is wrong with it."""
    name, _, rest = text.partition(":")
    action, colon, when = rest.partition(":")
    if name not in NAMES:
        raise ValueError(f"{name!r} is no failpoint; one of {', '.join(NAMES)}")
    if action not in list(Action):
        raise ValueError(f"{action!r} is no action; one of {', '.join(Action)}")
    point = Failpoint(name, Action(action))
    if not colon:
        return point
    try:
        if "." in when:
            point.probability = float(when)
        else:
            point.nth = int(when)
    except ValueError:
        point.nth = 0
    if not 0 <= point.probability <= 1 or (point.nth is not None and point.nth < 1):
        raise ValueError(f"{when!r} is neither a whole number from 1 on nor a probability such as 0.05")
    return point


def _from_environment() -> Failpoint | None:
    text = os.environ.get(VARIABLE)
    if not text:
        return None
    try:
        point = parse(text)
    except ValueError as error:
        sys.exit(f"image-gateway: {VARIABLE}: {error}")
    log.warning("failpoint armed: %s; this process is made to fail", text)
    return point


_armed = _from_environment()
ARMED = _armed is not None
"""Whether this process is made to fail. Who passes a place with each request asks this first: it costs no call."""


def reach(name: str) -> None:
    """Tell that a place on the way of a request is reached; nothing happens there unless it is armed."""
    if _armed is not None and _armed.name == name:
        _armed.strike()
