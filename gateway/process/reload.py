"""Reload: policy is read again when its files or secrets change, on SIGHUP and on request; a broken one does not."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from functools import partial
from typing import TypeVar

from gateway.config.fingerprint import Fingerprint, PolicySource, fingerprint
from gateway.config.load import Loaded, load_policy
from gateway.config.problems import Problem, unmasked
from gateway.domain.budget import Budget
from gateway.domain.errors import InvalidRequest
from gateway.domain.money import NANO_PER_MICRO, format_usd
from gateway.domain.policy import Policy
from gateway.ports import LedgerUnavailable
from gateway.process.app import Application, budgets_of
from gateway.process.today import today

T = TypeVar("T")
log = logging.getLogger("gateway.policy")

POLL_SECONDS = 0.5
STILL_SECONDS = 0.1
"""Files that changed are read once nothing has changed for so long: until then they may have been begun only."""
LOOKS = 5
"""How often it is looked whether they keep still."""
TRIES = 3
"""How often those that change while they are read are read."""


class PolicyReloader:
    """Keeps an application's policy as its directory says. `environ` is where secrets are looked up.

    `tell_others` has the other processes of the same gateway read it too, when the admin plane was asked to.
    """

    def __init__(
        self,
        application: Application,
        source: PolicySource,
        environ: Mapping[str, str],
        tell_others: Callable[[], None] = lambda: None,
    ) -> None:
        self._application = application
        self._directory, self._seen = source
        self._environ = environ
        self._tell_others = tell_others
        self._wanted = asyncio.Event()
        self._reading = asyncio.Lock()

    def wake(self) -> None:
        """Read the policy again soon, changed or not."""
        self._wanted.set()

    async def run(self) -> None:
        """Watch until cancelled. Files are read once they have kept still for a look, so that none is half written."""
        before = self._seen
        while True:
            try:
                async with asyncio.timeout(POLL_SECONDS):
                    await self._wanted.wait()
            except TimeoutError:
                now = await self._look()
                settled, before = now == before, now
                if not settled or now == self._seen:
                    continue
            await self.reload()

    async def reload(self) -> Loaded:
        """Read the policy now and serve by it if it checks; every problem is logged otherwise."""
        async with self._reading:
            self._wanted.clear()
            try:
                loaded = await self._read()
                if loaded.policy is not None:
                    await self._adopt(loaded.policy)
            except Exception as error:
                log.exception("a policy could not be read or served")
                # Its words are in the log alone, which hides secrets: they may quote what came from outside.
                why = f"cannot be served: {type(error).__name__}; the log of the gateway says more"
                loaded = Loaded(None, (Problem(str(self._directory), 1, "", why),), ())
        if loaded.policy is None:
            self._application.heartbeat.problems = list(map(str, loaded.problems))
            self._application.keep_policy()
        for problem in loaded.problems:
            log.error("policy problem: %s", unmasked(problem))
        for warning in loaded.warnings:
            log.warning("policy warning: %s", unmasked(warning))
        return loaded

    async def _adopt(self, policy: Policy) -> None:
        begun = list(_begun(self._application.policy, policy))
        try:
            counted = [balance.used + balance.held for balance in await self._application.ledger.balances(begun)]
        except LedgerUnavailable:
            counted = [0] * len(begun)
        self._application.adopt(policy)
        for budget, micro in zip(begun, counted, strict=True):
            usd = format_usd(micro * NANO_PER_MICRO)
            back = f"is put back and goes on at ${usd}, what was spent in between is not on it"
            how = back if micro else "is new, what was spent before is not on it"
            log.warning("a budget %s: %s per %s, view %s", how, budget.scope.label(), budget.window, budget.view)

    async def _read(self) -> Loaded:
        """Read the files, again if one was written meanwhile: it may have been seen half."""
        loaded = await self._load(await self._still())
        for _ in range(TRIES - 1):
            if await self._look() == self._seen:
                break
            loaded = await self._load(await self._still())
        return loaded

    async def _still(self) -> Fingerprint:
        """Return what the files look like, once they keep still if they are not as they were read."""
        before = await self._look()
        if before == self._seen:
            return before
        for _ in range(LOOKS):
            await asyncio.sleep(STILL_SECONDS)
            now = await self._look()
            if now == before:
                break
            before = now
        return before

    async def _look(self) -> Fingerprint:
        return await asyncio.to_thread(fingerprint, self._directory)

    async def _load(self, seen: Fingerprint) -> Loaded:
        self._seen = seen
        return await _aside(
            partial(load_policy, self._directory, environ=self._environ, secrets="required", today=today())
        )

    async def answer(self, _: Mapping[str, str]) -> object:
        """Reload for the admin plane, in every process if the policy checks; InvalidRequest lists what is wrong."""
        loaded = await self.reload()
        if loaded.policy is None:
            problems = [str(problem) for problem in loaded.problems]
            message = f"The policy does not check, the old one goes on serving. First of {len(problems)}: {problems[0]}"
            raise InvalidRequest(message, code="invalid_policy", details={"problems": problems})
        self._tell_others()
        return {"digest": loaded.policy.digest, "warnings": [str(warning) for warning in loaded.warnings]}


async def _aside(work: Callable[[], T]) -> T:
    """Return what some work comes to, done by a thread that the end of the process does not wait for."""
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()  # whoever gives up waiting stops nothing
    threading.Thread(target=_run, args=(work, future), name="policy", daemon=True).start()
    return await asyncio.wrap_future(future)


def _run(work: Callable[[], T], future: Future[T]) -> None:
    try:
        future.set_result(work())
    except BaseException as error:  # noqa: BLE001 - whoever waits has it raised
        future.set_exception(error)


def _begun(before: Policy, after: Policy) -> Iterator[Budget]:
    """Yield the budgets that lack what was spent before while they cover it; not those of a new project."""
    known = {budget.meter for budget in budgets_of(before)}
    for budget in budgets_of(after):
        if budget.meter not in known and (budget.scope.project is None or budget.scope.project in before.projects):
            yield budget
