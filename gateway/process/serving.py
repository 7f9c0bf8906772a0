"""Serving: one process with its sockets, from ready to drained."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from gateway.admin.callbacks import callback_actions, callback_views
from gateway.admin.explain import explain
from gateway.admin.views import admin_views
from gateway.domain.policy import Policy
from gateway.process.app import Application, Settings, running_application
from gateway.process.reload import PolicyReloader
from gateway.web.admin import create_admin_app
from gateway.web.app import create_app
from gateway.web.limits import BodyLimits
from gateway.web.server import serve_app


@dataclass(frozen=True, slots=True)
class Serving:
    """What to serve and how."""

    settings: Settings
    policy: Policy
    directory: Path | None = None
    """Where the policy is read again from; None if it cannot change."""
    limits: BodyLimits = field(default_factory=BodyLimits)
    admin_token: str | None = None


@dataclass(frozen=True, slots=True)
class Sockets:
    """What a process listens on; a worker has no admin socket, the admin process no data socket."""

    data: socket.socket | None
    admin: socket.socket | None
    lifeline: int | None = None
    """A descriptor at whose end-of-file the process stops: its supervisor is gone."""
    others: tuple[int, ...] = ()
    """Ports on which other processes of the same gateway listen."""

    def ports(self) -> set[int]:
        """Return every port on which the gateway listens."""
        own = (each.getsockname()[1] for each in (self.data, self.admin) if each is not None)
        return {*own, *self.others}


async def serve_process(
    serving: Serving, store_url: str, sockets: Sockets, *, ready: Callable[[], None] | None = None
) -> None:
    """Serve until SIGTERM or SIGINT, then take no new work, finish what runs and settle it."""
    async with running_application(serving.settings, serving.policy, store_url) as application:
        application.outgoing.guard.keep_from(sockets.ports())
        if sockets.data is None:
            application.tasking.rest()
        shutdown = _shutdown(sockets.lifeline)
        reloader = _reloader(application, serving.directory)
        grace = serving.settings.grace
        async with asyncio.TaskGroup() as group:
            if sockets.data is not None:
                app = create_app(application.service, serving.limits)
                group.create_task(serve_app(app, sockets.data, shutdown=shutdown, grace=grace))
            if sockets.admin is not None:
                admin = create_admin_app(
                    metrics=application.scrape,
                    token=serving.admin_token,
                    health=application.service.ready,
                    views=admin_views(application, makes_calls=sockets.data is not None)
                    | callback_views(application.outgoing.callbacks),
                    actions=({"reload": reloader.answer} if reloader else {})
                    | callback_actions(application.outgoing.callbacks),
                    questions={"explain": partial(explain, application)},
                )
                group.create_task(serve_app(admin, sockets.admin, shutdown=shutdown, grace=grace))
            watching = group.create_task(reloader.run()) if reloader else None
            if ready is not None:
                ready()
            await shutdown.wait()
            application.lifecycle.refuse_new_work()
            if watching is not None:
                watching.cancel()


def _reloader(application: Application, directory: Path | None) -> PolicyReloader | None:
    if directory is None:
        return None
    reloader = PolicyReloader(application, directory, os.environ)
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reloader.wake)
    return reloader


def _shutdown(lifeline: int | None) -> asyncio.Event:
    """Return an event that is set by SIGTERM, by SIGINT, or when the supervisor is gone."""
    loop, shutdown = asyncio.get_running_loop(), asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, shutdown.set)

    def alone(descriptor: int) -> None:
        loop.remove_reader(descriptor)  # end-of-file is readable for ever
        shutdown.set()

    if lifeline is not None:
        loop.add_reader(lifeline, alone, lifeline)
    return shutdown
