"""Rules, candidates and settlements, shortly written; and looks into the store behind the ledger's back."""

from __future__ import annotations

from gateway.domain.budget import Budget, Candidate, Counted, Denied, Held, Line, Quota, Scope, View, Window
from gateway.domain.route import Views
from gateway.domain.settlement import CostSource, Settlement
from gateway.ledger.entries import Entry, read_entries
from gateway.ledger.redis_ledger import RedisLedger
from gateway.ledger.store import Store

ABOUT = {"project": "p", "key": "key_1", "job_type": "hero", "operation": "generate", "n": 1, "tags": {"team": "web"}}
EVERYTHING = Scope()


def budget(limit: int, window: Window = Window.TOTAL, *, scope: Scope = EVERYTHING, view: View = View.ROUTE) -> Budget:
    """A budget in micro-USD."""
    return Budget(scope, window, limit, view)


def images(limit: int, seconds: int = 60, *, scope: Scope = EVERYTHING) -> Quota:
    """Images per rolling window."""
    return Quota(scope, Counted.IMAGES, limit, seconds)


def concurrent(limit: int, *, scope: Scope = EVERYTHING) -> Quota:
    """Requests in flight."""
    return Quota(scope, Counted.CONCURRENT, limit)


def candidate(*lines: tuple[Budget | Quota, int], route: str = "r", worst: int | None = None) -> Candidate:
    """A candidate; `worst` is nano-USD, the same in every view."""
    facts: dict[str, object] = {"route": route, "model": "m", "provider": "v"}
    if worst is not None:
        facts["worst"] = dict.fromkeys(("official", "route", "internal"), str(worst))
    return Candidate(route, tuple(Line(rule, amount) for rule, amount in lines), facts)


async def hold(ledger: RedisLedger, request_id: str, *candidates: Candidate) -> Held:
    """Hold, and be sure of it."""
    answer = await ledger.choose_and_hold(request_id, candidates, about=ABOUT)
    assert isinstance(answer, Held), answer
    return answer


async def denied(ledger: RedisLedger, request_id: str, *candidates: Candidate) -> Denied:
    """Ask for a hold, and be sure that it is refused."""
    answer = await ledger.choose_and_hold(request_id, candidates, about=ABOUT)
    assert isinstance(answer, Denied), answer
    return answer


def settlement(
    request_id: str, nano: int, *, attempt: int = 1, source: CostSource = CostSource.USAGE, images: int = 1
) -> Settlement:
    """A settlement at the same cost in every view."""
    return Settlement(request_id, attempt, Views(nano, nano, nano), source, images)


async def contents(store: Store, realm: str) -> dict[str, object]:
    """Everything that a realm has in the store but watermarks, for comparison before and after."""
    names = sorted(await store.execute("KEYS", f"igw:{{{realm}}}:*"))
    names = [name for name in names if not name.endswith(":instances")]
    read = {"hash": ("HGETALL",), "zset": ("ZRANGE", 0, -1), "stream": ("XRANGE", "-", "+"), "string": ("GET",)}
    found: dict[str, object] = {}
    for name in names:
        command, *rest = read[await store.execute("TYPE", name)]
        found[name] = await store.execute(str(command), name, *rest)
    return found


async def entries(store: Store, realm: str) -> list[Entry]:
    """All entries of a realm."""
    return [entry async for entry in read_entries(store, realm)]


async def spent_by_entries(store: Store, realm: str) -> dict[str, int]:
    """Every balance's spent part, rebuilt from the entries alone."""
    totals: dict[str, int] = {}
    for entry in await entries(store, realm):
        for field, micro in entry.lines.items():
            totals[field] = totals.get(field, 0) + micro
    return totals


async def balances(store: Store, realm: str) -> dict[str, tuple[int, int]]:
    """Every money balance as it stands: spent and held."""
    cells: dict[str, str] = await store.execute("HGETALL", f"igw:{{{realm}}}:bal")
    pairs = {field: cell.split(" ") for field, cell in cells.items() if field.startswith("usd|")}
    return {field: (int(spent), int(held)) for field, (spent, held) in pairs.items()}
