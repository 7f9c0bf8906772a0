"""Routes as the console shows them: health in every process, what their limits leave, how fast they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from gateway.console.event_summary import of_routes
from gateway.console.figures import told
from gateway.console.page_data import PageData
from gateway.console.rollup import DAY, bucket_of
from gateway.domain.spend import Row

WELL = {"circuit": "closed"}
_WORST = ("open", "half_open", "slow_start", "closed")


async def routes(data: PageData, _: Mapping[str, str]) -> dict[str, object]:
    """Return every route of the policy; LedgerUnavailable."""
    snapshot, words = await data.snapshot.now(), await data.words.now()
    doing = of_routes(await data.happened.now())
    today = data.follower.rollup.sums("route", DAY, bucket_of(data.clock(), DAY))
    states = {state.route: state for state in snapshot.routes}
    callers = [word for word in words if word.get("makes_calls")]
    shown = []
    for name, route in data.policy.routes.items():
        healths = [{"host": word["host"], "pid": word["pid"], **word["routes"].get(name, WELL)} for word in callers]
        circuits = [str(health["circuit"]) for health in healths]
        state = states.get(name)
        shown.append(
            {
                "route": name,
                "provider": route.provider.name,
                "model": route.model.name,
                "lane": str(route.lane),
                "retires": route.model.retires.isoformat() if route.model.retires else None,
                "circuit": next((each for each in _WORST if each in circuits), "unknown"),
                "healths": [health for health in healths if health["circuit"] != "closed"],
                "limits": [asdict(limit) for limit in state.limits] if state else [],
                "today": told(today.get(name, Row((name,)))),
                **doing.get(name, {"calls": 0, "failed": 0, "p50": None, "p95": None}),
            }
        )
    return {"routes": shown, "processes": len(callers)}
