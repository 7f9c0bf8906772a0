"""What every kind of failure of the store means: whether to try again, where, and whether the store is away.

A reply that refuses says that nothing was done, hence any call may be tried again after it. After a broken connection
nobody knows, so that only a call which may be repeated is.
"""

from __future__ import annotations

from dataclasses import dataclass

from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    ClusterCrossSlotError,
    ClusterDownError,
    MasterDownError,
    MovedError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as StoreConnectionError
from redis.exceptions import TimeoutError as StoreTimeoutError

from gateway.ledger.errors import LedgerRefused
from gateway.ports import LedgerUnavailable

FAULTS = (RedisError, OSError, RuntimeError)
"""What may go wrong with a connection. RuntimeError is uvloop's word for writing to one that has just died."""


@dataclass(frozen=True, slots=True)
class Failure:
    """`again`: worth another try. `moved`: ask anew where the store is. `away`: no call will fare better for now."""

    again: bool = False
    moved: bool = False
    away: bool = False
    nothing_done: bool = True
    error: type[LedgerUnavailable] = LedgerUnavailable


BROKEN = Failure(again=True, moved=True, away=True, nothing_done=False)
"""Refused, closed or garbled connections."""

TOO_LATE = Failure(nothing_done=False)
"""The call's own deadline."""

REFUSED = Failure(error=LedgerRefused)
"""Any other reply: the same call would fare no better."""

REPLIES = {
    "ASK": Failure(again=True),  # the slot moves and changed its mind while the redirection was followed
    "BUSY": Failure(away=True),  # somebody's script runs without end
    "CLUSTERDOWN": Failure(again=True, moved=True, away=True),
    "LOADING": Failure(away=True),  # takes as long as the file is large
    "MASTERDOWN": Failure(again=True, moved=True, away=True),
    "MOVED": Failure(again=True, moved=True),
    "NOREPLICAS": Failure(),  # min-replicas-to-write; reads go on
    "READONLY": Failure(again=True, moved=True),  # a primary that was demoted
    "TRYAGAIN": Failure(again=True),
    "CROSSSLOT": REFUSED,
    "MISCONF": REFUSED,  # its disk is full, and it takes no writes until somebody frees space
    "NOAUTH": REFUSED,
    "NOPERM": REFUSED,
    "NOSCRIPT": REFUSED,
    "OOM": REFUSED,
    "WRONGPASS": REFUSED,
}
"""By the first word of the reply. https://redis.io/docs/latest/develop/reference/protocol-spec/#simple-errors"""

_CODES: tuple[tuple[type[Exception], str], ...] = (  # for these the client library takes the first word away
    (MovedError, "MOVED"),
    (MasterDownError, "MASTERDOWN"),
    (ClusterDownError, "CLUSTERDOWN"),
    (ClusterCrossSlotError, "CROSSSLOT"),
    (TryAgainError, "TRYAGAIN"),
    (BusyLoadingError, "LOADING"),
    (ReadOnlyError, "READONLY"),
    (NoScriptError, "NOSCRIPT"),
    (OutOfMemoryError, "OOM"),
    (NoPermissionError, "NOPERM"),
    (AuthenticationError, "NOAUTH"),
    (AuthorizationError, "NOPERM"),
)


def code_of(error: Exception) -> str | None:
    """Return the first word of the reply that the error is; None if it is no reply."""
    if type(error) is StoreConnectionError and isinstance(error.__cause__, RedisError):
        error = error.__cause__  # so the client library tells what a server says while a unix socket is connected
    for kind, code in _CODES:
        if isinstance(error, kind):
            return code
    if not isinstance(error, ResponseError):
        return None
    word = str(error).partition(" ")[0]
    return word if word.isupper() else "ERR"


def answered(error: BaseException) -> bool:
    """Tell whether an error that was told came of a reply: whoever sent it runs."""
    return isinstance(error.__cause__, Exception) and code_of(error.__cause__) is not None


def failure_of(error: Exception) -> Failure:
    """Return what an error of the client library, or of the operating system, means."""
    if isinstance(error, StoreTimeoutError):
        return TOO_LATE
    code = code_of(error)
    return BROKEN if code is None else REPLIES.get(code, REFUSED)


def described(error: Exception) -> str:
    """Return the error in one line, its code first, without a full stop at its end."""
    code, text = code_of(error), " ".join(str(error).split()).rstrip(".")
    if text.startswith("Protocol error: unauthenticated"):  # it reads no long command of whoever has not said who it is
        return "NOAUTH Authentication required"
    told = code is None or code in {"ERR", "NOAUTH"} or text.startswith(code)
    return (text if told else f"{code} {text}") or type(error).__name__
