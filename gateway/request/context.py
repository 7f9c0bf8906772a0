"""Context: the collaborators that all flights of a process share, and the gateway's own response headers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import date

from gateway.domain.budget import Held
from gateway.domain.retry import RetryBudgets
from gateway.observe.event import Observer
from gateway.ports import Answers, Headers, Ledger, Settlements
from gateway.ports.provider import UpstreamFailure
from gateway.request.admission import Admission, AdmissionState
from gateway.request.entitlement import Entitlement
from gateway.request.exchange import Admitted
from gateway.request.shadow import Shadows
from gateway.request.told_calls import tell_failed
from gateway.steps.write import write


@dataclass(frozen=True, slots=True)
class FlightContext:
    """The collaborators that all flights of a process share."""

    ledger: Ledger
    settlements: Settlements
    observer: Observer
    today: Callable[[], date]
    answers: Answers
    budgets: RetryBudgets
    shadows: Shadows
    admissions: AdmissionState
    entitlement: Entitlement
    admission: Admission = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "admission", Admission(self.ledger, self.admissions, self.entitlement))

    def upstream_failed(self, route: str, failures: Iterable[UpstreamFailure]) -> None:
        """Tell of calls that failed, each for itself."""
        tell_failed(self.observer, route, failures)


def own_headers(
    admitted: Admitted, today: Callable[[], date], held: Held | None = None, cost: int | None = None
) -> Headers:
    """Return the gateway's own headers for a request as far as it has come; `cost` is nano-USD."""
    exchange = admitted.exchange
    quote = exchange.quote or admitted.ranked.quotes[0]
    request_id, job_type = exchange.inbound.request_id, admitted.job_type.name
    return write(request_id, job_type, quote, exchange.attempts, today, held=held, cost=cost, arm=exchange.arm)
