"""Tried: what came of one try of a task's work."""

from __future__ import annotations

from typing import NamedTuple

from gateway.domain.errors import GatewayError
from gateway.request.answer_keeping import Whole
from gateway.tasks.recovery import EarlierAttempts


class Tried(NamedTuple):
    """What came of one try, its cost in nano-USD (route view), and what holds and counts still for the next one."""

    outcome: Whole | GatewayError
    cost: int | None
    queued: int | None
    before: EarlierAttempts | None
