"""What the gateway is to reach, with everything on, on one core."""

from __future__ import annotations

from benchmarks.report import Goal, Measure


def figure(name: str, times: float = 1.0) -> Measure:
    """A figure in another unit."""
    return lambda figures: figures[name] * times


def ratio(name: str, of: str, who: str = "gateway") -> Measure:
    """The gateway's figure by somebody else's."""
    return lambda figures: figures[f"{name}.{who}"] / figures[f"{name}.{of}"]


def added(name: str, who: str = "gateway") -> Measure:
    """What the gateway adds to a direct call, milliseconds."""
    return lambda figures: (figures[f"{name}.{who}"] - figures[f"{name}.direct"]) * 1000


def beside_others(who: str = "gateway", where: str = "") -> tuple[Goal, ...]:
    """What is to be reached beside others, with the gateway's store on its core or elsewhere."""
    small, one = f"1 KB answers{where}", f"added at 1 connection{where}"
    return (
        Goal(f"{small}: at least 25 times LiteLLM's", ratio("small.rate", "litellm", who), 25, "times", least=True),
        Goal(f"{small}: at least 3 times Portkey's", ratio("small.rate", "portkey", who), 3, "times", least=True),
        Goal(f"{one}, p50: at most 1.2 ms", added("one.p50", who), 1.2, "ms"),
        Goal(f"{one}, p99: at most 4 ms", added("one.p99", who), 4, "ms"),
    )


def grown(what: str) -> Goal:
    """That much of something changes no cost."""
    return Goal(f"processor for a request with many {what}: at most 1.1 times", figure(f"growth.{what}"), 1.1, "times")


GOALS = (
    *beside_others(),
    *beside_others("elsewhere", ", its store on another core"),
    Goal("2.1 MB answers: at least 0.6 of nginx's bytes", ratio("large.volume", "nginx"), 0.6, "times", least=True),
    Goal("10 MB uploads: at least 0.6 of nginx's", ratio("edit.rate", "nginx"), 0.6, "times", least=True),
    Goal("memory at rest: at most 80 MB", figure("rest.gateway", 1e-6), 80, "MB"),
    Goal("memory for each 8 MB answer in flight: at most 0.5 MB", figure("in_flight.each", 1e-6), 0.5, "MB"),
    Goal("of those, share that came whole: all", figure("in_flight.answered"), 1, least=True),
    Goal("requests waiting in one process: 10,000", figure("waiting.most"), 10_000, least=True),
    Goal("of those, share that was answered: all", figure("waiting.answered"), 1, least=True),
    Goal("two workers: at least 1.8 times one", figure("workers.ratio"), 1.8, "times", least=True),
    grown("keys"),
    grown("projects"),
    grown("routes"),
    grown("routes of one job type"),
    grown("requests on record"),
    Goal("goodput at ten times capacity: at least 0.9", figure("overload.goodput"), 0.9, "of the peak", least=True),
    Goal("time to a refusal then, p99: at most 20 ms", figure("overload.refusal.p99", 1000), 20, "ms"),
    Goal("goodput at ten times the connections: at least 0.9", figure("crowd.goodput"), 0.9, "of 64", least=True),
    Goal("runs in which the ledger was exact: both", lambda f: f["overload.exact"] + f["noisy.exact"], 2, least=True),
    Goal("a noisy project moves the others' p99: at most 1.5 times", figure("noisy.p99"), 1.5, "times"),
)
