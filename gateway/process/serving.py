"""Serving: one process with its sockets, from ready to drained."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from gateway.admin.callbacks import callback_actions, callback_views
from gateway.admin.explain import explain
from gateway.admin.keys import KeyAdministration, key_actions, key_questions, key_views
from gateway.admin.views import admin_views
from gateway.config.fingerprint import PolicySource
from gateway.console.app import Console
from gateway.console.page_data import PageData
from gateway.domain.policy import Policy
from gateway.domain.route import Secret
from gateway.ledger.keys import Keys
from gateway.ledger.pepper import load_pepper
from gateway.observe.event import RequestShed
from gateway.process import heap
from gateway.process.app import Application, Settings, running_application
from gateway.process.background import kept_running
from gateway.process.descriptors import raise_limit
from gateway.process.memory import resident_bytes
from gateway.process.reload import PolicyReloader
from gateway.process.stopping import READY, Stopping, heed_no_more, notify
from gateway.web.admin import create_admin_app
from gateway.web.app import create_app
from gateway.web.limits import BodyLimits
from gateway.web.server import serve_app
from gateway.web.shedding import ProcessLimits, Shedding
from gateway.web.wrong_keys import WrongKeys

WORDS_SECONDS = 2.0
"""Beyond the grace, so that clients of requests which are ended then are told so."""


@dataclass(frozen=True, slots=True)
class Serving:
    """What to serve and how."""

    settings: Settings
    policy: Policy
    source: PolicySource | None = None
    """None if the policy cannot change."""
    limits: BodyLimits = field(default_factory=BodyLimits)
    capacity: ProcessLimits = field(default_factory=ProcessLimits)
    wrong_keys: WrongKeys = field(default_factory=WrongKeys)
    admin_token: Secret | None = None
    delay: float = 0.0
    """Seconds from SIGTERM on in which it serves on, not ready, before it takes no more."""


@dataclass(frozen=True, slots=True)
class Sockets:
    """What a process listens on; a worker has no admin socket, the admin process no data socket."""

    data: socket.socket | None
    admin: socket.socket | None
    lifeline: int | None = None
    """A descriptor at whose end-of-file the process stops: its supervisor is gone."""
    others: tuple[int, ...] = ()
    """Ports on which other processes of the same gateway listen."""
    reload_others: Callable[[], None] = lambda: None
    """Has those read the policy again."""

    def ports(self) -> set[int]:
        """Return every port on which the gateway listens."""
        own = (each.getsockname()[1] for each in (self.data, self.admin) if each is not None)
        return {*own, *self.others}


async def serve_process(
    serving: Serving, store_url: str, sockets: Sockets, *, ready: Callable[[], None] | None = None
) -> None:
    """Serve until SIGTERM or SIGINT and the delay after it, then take no new work, finish what runs and settle it."""
    async with running_application(serving.settings, serving.policy, store_url) as application:
        application.egress.guard.keep_from(sockets.ports())
        if sockets.data is None:
            application.tasks.rest()
        # A process without the data plane has no client to wait for: its supervisor stops it when the others are gone.
        stopping = Stopping(serving.delay if sockets.data is not None else 0.0)
        stopping.follow_signals(sockets.lifeline)
        shutdown = stopping.shutdown
        reloader = _reloader(application, serving.source, sockets)
        grace = serving.settings.grace
        shedding = _shedding(application, serving.capacity)
        async with asyncio.TaskGroup() as group:
            if sockets.data is not None:
                raise_limit(serving.capacity.requests)
                app = create_app(application.service, serving.limits, shedding=shedding, wrong_keys=serving.wrong_keys)
                leaving = stopping.leaving
                group.create_task(
                    serve_app(app, sockets.data, shutdown=shutdown, grace=grace + WORDS_SECONDS, leaving=leaving)
                )
            if sockets.admin is not None:
                application.heartbeat.makes_calls = sockets.data is not None
                group.create_task(_serve_admin(application, serving, reloader, sockets.admin, shutdown))
            watching = group.create_task(kept_running(reloader)) if reloader else None
            heap.settle()
            tidying = group.create_task(heap.keep_giving_back())
            if ready is not None:
                ready()
            if sockets.data is not None:
                notify(READY)
            await stopping.run(partial(_leave, application))
            await asyncio.gather(application.lifecycle.drain(grace), application.tasks.aclose(grace))
            tidying.cancel()
            if watching is not None:
                watching.cancel()
        shedding.close()
    heed_no_more()


async def _serve_admin(
    application: Application,
    serving: Serving,
    reloader: PolicyReloader | None,
    sock: socket.socket,
    shutdown: asyncio.Event,
) -> None:
    callbacks = application.egress.callbacks
    pepper = load_pepper(serving.settings.data, serving.settings.pepper)
    keys = KeyAdministration(application, Keys(application.store, pepper, application.realm))
    token = serving.admin_token.reveal() if serving.admin_token is not None else None
    console = Console(PageData(application), keys, reloader, token, shutdown, wrong_keys=serving.wrong_keys)
    admin = create_admin_app(
        metrics=application.scrape,
        token=token,
        health=partial(application.service.ready, openly=True),
        views=admin_views(application, makes_calls=application.heartbeat.makes_calls)
        | callback_views(callbacks)
        | key_views(keys),
        actions=({"reload": reloader.answer} if reloader else {}) | callback_actions(callbacks) | key_actions(keys),
        questions={"explain": partial(explain, application)} | key_questions(keys),
        pages=console.pages(),
        wrong_keys=serving.wrong_keys,
    )
    async with asyncio.TaskGroup() as group:
        following = group.create_task(console.run())
        await serve_app(admin, sock, shutdown=shutdown, grace=serving.settings.grace)
        following.cancel()


def _leave(application: Application) -> None:
    application.service.leave()
    application.metrics.show("leaving", 1)


def _shedding(application: Application, capacity: ProcessLimits) -> Shedding:
    def told(reason: str) -> None:
        application.lifecycle.flight_context.observer.emit(RequestShed(reason))

    return Shedding(capacity, told, resident_bytes, heap.give_back)


def _reloader(application: Application, source: PolicySource | None, sockets: Sockets) -> PolicyReloader | None:
    if source is None:
        return None
    reloader = PolicyReloader(application, source, os.environ, sockets.reload_others)
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reloader.wake)
    return reloader
