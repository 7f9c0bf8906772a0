"""Exhausted: the error for a request after all of its calls have failed."""

from __future__ import annotations

import random
from collections.abc import Sequence

from gateway.domain.errors import (
    GatewayError,
    RateLimited,
    Unavailable,
    UnsupportedByEveryRoute,
    UpstreamError,
    UpstreamTimeout,
)
from gateway.domain.retry import jittered
from gateway.ports.provider import UpstreamFailure
from gateway.request.retrying import Failed, RetryPlan

LEDGER_RETRY_AFTER = 2.0
"""Seconds a client is asked to wait when the store does not answer."""
_PASSING = frozenset({"status_429", "batch_full"})


def cannot_hold() -> Unavailable:
    """Return the error for a hold that could not be taken, when no call may have been billed."""
    return Unavailable(
        "The ledger is not available, so nothing can be held; nothing was spent. Please try again.",
        code="ledger_unavailable",
        retry_after=jittered(LEDGER_RETRY_AFTER, random.random),
    )


def failed(plan: RetryPlan) -> GatewayError:
    """Return the error for a request whose calls all failed. Once any may have been billed it must not be repeated."""
    error = _failed(plan)
    bounded(plan, error)
    return error


def bounded(plan: RetryPlan | None, error: GatewayError) -> None:
    """Let an error say so where nothing but its cost keeps a request from another call."""
    if plan is not None and plan.too_dear:
        error.message += " Another call would exceed the maximum that the request may cost."


def _failed(plan: RetryPlan) -> GatewayError:
    if plan.presumed:
        return _presumed(plan.failures)
    told, calls = _told(plan.failures), [failed for failed in plan.failures if failed.called] or plan.failures
    passing = [failed for failed in calls if failed.failure.reason in _PASSING]
    if passing and all(failed in passing or _is_undone(failed) for failed in calls):
        every = "Every route" if len(calls) == len(plan.failures) else "Every route that can do this"
        message = f"{every} is at its provider's rate limit ({told}). Nothing was billed; please try again."
        return RateLimited(message, retry_after=plan.retry_after(passing), should_retry=True)
    failures = [failed.failure for failed in calls]
    if all(failure.reason == "unsupported" for failure in failures):
        return UnsupportedByEveryRoute(f"No route can do this ({told}). Nothing was billed.")
    lasting = all(failure.reason.startswith("account") for failure in failures)
    charged = any(failure.charged for failure in failures)
    billed = "The refusal was billed" if charged else "Nothing was billed"
    final = lasting or charged
    named = all(failure.retry_after is not None for failure in failures)
    return UpstreamError(
        f"Every route failed ({told}). {billed}.",
        retry_after=plan.retry_after(calls) if named and not final else None,
        should_retry=False if final else None,
    )


def _is_undone(failed: Failed) -> bool:
    """Tell whether it is work that a batch did not do, for nothing: another does it once there is room."""
    return failed.quote.batch is not None and not failed.failure.charged


def _presumed(failures: Sequence[Failed]) -> GatewayError:
    unclear = [failed for failed in failures if failed.presumed]
    error = unknown(unclear[-1].failure)
    if len(failures) > 1:
        routes = " and ".join(failed.quote.route.name for failed in unclear)
        error.message = (
            f"Every route failed ({_told(failures)}). The work may have been done and billed by {routes}, "
            "and is booked so."
        )
    return error


def _told(failures: Sequence[Failed]) -> str:
    return "; ".join(f"{failed.quote.route.name}: {failed.failure.message}" for failed in failures)


def unknown(failure: UpstreamFailure, *, confirmed: bool = False) -> GatewayError:
    """Return the error for a call that may have been billed, and must not be repeated blindly.

    `confirmed` tells that the answer had said what it cost before it broke off.
    """
    kind = UpstreamTimeout if failure.reason == "timeout" else UpstreamError
    booked = "what it reported was booked" if confirmed else "its worst case was booked as unconfirmed"
    message = f"{failure.message}. The work may have been done and billed; {booked}."
    return kind(message, should_retry=False)
