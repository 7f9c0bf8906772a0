"""Exchange: one request on its way through the gateway, what is known of it so far, and the events that tell of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date

from gateway.domain.about import About
from gateway.domain.caller import Caller
from gateway.domain.idempotency import Binding
from gateway.domain.job import JOB_PREFIX, Job, Wishes
from gateway.domain.mark import mark
from gateway.domain.policy import JobType, Policy, Project
from gateway.domain.record import record
from gateway.domain.route import Quote, Views
from gateway.domain.settlement import PRESUMED, CostSource, Settlement, SettleResult
from gateway.domain.trial import Arm, is_sampled
from gateway.observe.event import NONE, Degraded, HoldEnded, Observer, Replaced, RequestFinished
from gateway.observe.hold_ends import tell_hold
from gateway.ports import Body, RequestFacts
from gateway.ports.provider import Archive, Converter, Links
from gateway.ports.responses import ResponseTracker
from gateway.request.flight_task import FlightTask
from gateway.steps.rank import Ranked, maximum
from gateway.steps.reserve import PayerDetails

_NOTHING = Wishes()


@dataclass(slots=True)
class Exchange:
    """Filled in as the request goes along; times are seconds, money nano-USD."""

    inbound: RequestFacts
    wishes: Wishes = _NOTHING
    caller: Caller | None = None
    job: Job | None = None
    job_type: JobType | None = None
    binding: Binding | None = None
    """What its hold is bound to, so that a repetition of it finds it."""
    orphan_name: str | None = None
    """What a retry without a key calls it by, should its client leave it behind."""
    replayed: bool = False
    links: Links | None = None
    """Where its images are kept, if its client wants links to them."""
    uploads: Links | None = None
    """Where its input images may be kept for a provider that fetches them."""
    archive: Archive | None = None
    """Where its images are kept beside the answer, if policy has it so."""
    converter: Converter | None = None
    """What converts images that came in another format, if policy has it so."""
    cache_key: str | None = None
    """What it says, as a digest, if its answer may be given again."""
    cache_fields: frozenset[str] = frozenset()
    """Names of what it says, then: which of them are left out for the provider depends on the route."""
    cached: bool = False
    """Whether an earlier request's images answered it."""
    tracker: ResponseTracker | None = None
    """What is done with its answer, if it leads a conversation."""
    task: FlightTask | None = None
    """If it is a task's, which began without a client that waits."""
    arm: Arm | None = None
    """Of an experiment, if the request is in one."""
    leave_limiter: Callable[[], None] | None = None
    """Gives back its place among those that are brought to their holds, while it has one."""
    quote: Quote | None = None
    changes_told: tuple[str, ...] = ()
    """What policy changed to save money, as far as events have told of it."""
    attempts: int = 0
    failed: tuple[str, ...] = ()
    """Routes that failed it so far."""
    upstream_seconds: float = 0.0
    client_seconds: float = 0.0
    waits_since: float | None = None
    """When it began to wait for a slot, by the clock of the queue; None if it did not."""
    waited: float = 0.0
    """In a queue for a slot on a route; part of `upstream_seconds`."""
    spent_before: int = 0
    """By calls of other workers, in the route view; `cost` is without them."""
    cost: Views | None = None
    source: CostSource | None = None
    images: int = 0

    def begun(self) -> None:
        """Take note that it has asked for its hold, or waits for something else: others may begin."""
        leave, self.leave_limiter = self.leave_limiter, None
        if leave is not None:
            leave()

    @property
    def sampled(self) -> bool:
        """Whether the job type's shadow is to repeat it."""
        shadow = self.job_type.shadow if self.job_type else None
        return shadow is not None and is_sampled(shadow, self.inbound.request_id)

    def changed(self, quote: Quote) -> list[Degraded | Replaced]:
        """Return what policy changed in a quote that was chosen, and the retired model it stands in for, each once."""
        changes = [f"{name}={value}" for name, value in quote.degraded.items()]
        new = [change for change in changes if change not in self.changes_told]
        told: list[Degraded | Replaced] = [Degraded(self.job_type.name if self.job_type else NONE, one) for one in new]
        if quote.replaced is not None and quote.replaced not in self.changes_told:
            told.append(Replaced(quote.route.name, quote.replaced, quote.route.model.name))
            new.append(quote.replaced)
        self.changes_told += tuple(new)
        return told

    def booked(self, settlement: Settlement) -> None:
        """Add what one of its attempts has cost; it is no better known than the worst known of them."""
        self.cost = settlement.cost if self.cost is None else self.cost + settlement.cost
        if self.source is not PRESUMED:
            self.source = settlement.source
        self.images += settlement.images

    def finished(
        self, status: int, *, code: str = "", error_type: str = "", client_gone: bool = False, bytes_out: int = 0
    ) -> RequestFinished:
        """Return the event that ends this request, which needs no place to begin in any more."""
        if self.leave_limiter is not None:
            self.begun()
        duration = time.monotonic() - self.inbound.received
        overhead = duration - self.upstream_seconds - self.client_seconds
        caller, quote = self.caller, self.quote
        job = quote.job if quote else self.job
        arm = None if self.wishes.dry_run or self.replayed else self.arm  # neither is a trial of anything
        return RequestFinished(  # by place: finding so many names takes twice as long as all the rest
            self.inbound.request_id,
            str(job.operation if job else self.inbound.operation),
            status,
            duration,
            max(0.0, overhead),
            caller.project if caller else NONE,
            caller.key_id if caller else NONE,
            self.job_type.name if self.job_type else NONE,
            quote.route.name if quote else NONE,
            self.attempts,
            job.n if job else 0,
            job.size if job else "",
            job.quality if job else "",
            self.images,
            quote.worst.route if quote and not (self.cached or self.wishes.dry_run) else None,
            self.cost.route if self.cost else None,
            "cache" if self.cached else self.source or "",
            code,
            client_gone,
            bytes_out,
            self.replayed,
            self.wishes.tags,
            arm.experiment if arm else NONE,
            arm.name if arm else NONE,
            self.waited,
            str(self.inbound.operation),
            error_type,
        )


@record(frozen=True, slots=True)
class Admitted:
    """A request that is understood, priced and ranked: all that is needed to do it."""

    exchange: Exchange
    caller: Caller
    project: Project
    job: Job
    job_type: JobType
    policy: Policy
    ranked: Ranked
    body: Body
    day: date
    """By whose prices and retirements it was, in UTC."""

    @property
    def request_id(self) -> str:
        """The request's public id."""
        return self.exchange.inbound.request_id

    @property
    def payer(self) -> PayerDetails:
        """Whose money it draws on, as far as policy alone limits what a route may do."""
        return PayerDetails(self.caller, self.project, self.job_type, self.policy, self.exchange.wishes.degrade)

    def pays_for(self, quote: Quote) -> bool:
        """Tell whether one more call, with all it has cost, keeps to what client and policy let the request cost."""
        exchange = self.exchange
        most = maximum(quote, exchange.wishes, self.job_type)
        cost = exchange.spent_before + (exchange.cost.route if exchange.cost is not None else 0)
        return most is None or cost + quote.worst.route <= most

    def about(self) -> Mapping[str, object]:
        """Return what the ledger's record says of the request: no prompt, no secret, no image. Others have it too."""
        exchange, ranked = self.exchange, self.ranked
        made_of = (self.job, self.caller, exchange.wishes, self.project, self.job_type, self.policy)
        if ranked.about is not None and not exchange.failed and ranked.about.is_of(made_of):
            return ranked.about
        about = About(self._about(), made_of)
        if not exchange.failed:
            ranked.keep(about)
        return about

    def _about(self) -> dict[str, object]:
        job, arm = self.job, self.ranked.arm
        return {
            "project": self.project.name,
            "key": self.caller.key_id,
            "job_type": self.job_type.name,
            "operation": str(job.operation),
            "client_model": job.client_model,
            "text_bytes": job.prompt_bytes,
            "n": job.n,
            "size": job.size,
            "quality": job.quality,
            "background": job.background,
            "output_format": job.output_format,
            "mask": job.mask,
            "references": job.references,
            "stream": job.stream,
            "partial_images": job.partial_images,
            "tags": dict(self.exchange.wishes.tags),
            "passed_over": [{"route": refusal.route, "reason": refusal.reason} for refusal in self.ranked.refusals],
            "text_chars": job.prompt_chars,
            "rules": mark(self.policy, self.project, self.job_type),
            **({"experiment": arm.experiment, "arm": arm.name} if arm else {}),
            **self._meant(),
            **self._named(),
        }

    def _meant(self) -> dict[str, object]:
        """How large a ratio is to be, and what stands there for words of old, where there is anything of it."""
        job = self.job
        told: dict[str, object] = {}
        if job.resolution is not None:
            told["resolution"] = job.resolution
        if job.retired_model is not None:
            told["retired_model"] = job.retired_model
        if job.mapped:
            told["mapped"] = list(job.mapped)
        if job.assumed:
            told["assumed"] = list(job.assumed)
        return told

    def _named(self) -> dict[str, object]:
        """What the client asked of the gateway itself, and which routes failed it, where there is anything of it."""
        wishes = self.exchange.wishes
        told: dict[str, object] = {}
        by_model = self.job.client_model is not None and self.job.client_model.startswith(JOB_PREFIX)
        if (named := wishes.job_type or (None if by_model else self.caller.job_type)) is not None:
            told["named_job_type"] = named
        if wishes.lane is not None:
            told["lane"] = wishes.lane
        if wishes.max_cost is not None:
            told["max_cost"] = wishes.max_cost
        if not wishes.degrade:
            told["degrade"] = "never"
        if self.exchange.failed:
            told["failed"] = list(self.exchange.failed)
        return told

    def tell_ended(self, observer: Observer, quote: Quote, settlement: Settlement, result: SettleResult) -> None:
        """Tell of a hold that was settled or presumed."""
        tell_hold(observer, self.hold_ended(quote, settlement), result)

    def hold_ended(self, quote: Quote, settlement: Settlement) -> HoldEnded:
        """Return the event of a hold that was settled or presumed."""
        arm = self.ranked.arm
        return HoldEnded(  # by place, as above
            self.project.name,
            self.job_type.name,
            quote.route.name,
            str(settlement.facts.get("quality") or quote.job.quality),
            settlement.cost,
            quote.worst,
            settlement.source,
            settlement.images,
            settlement.usage,
            arm.experiment if arm else NONE,
            arm.name if arm else NONE,
        )
