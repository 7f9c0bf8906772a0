"""The console's endpoints on the admin plane: the page, its session, what it shows and what it does.

Whoever has no session gets the login page and nothing else. Where the admin plane needs no token the console needs
none either, and answers to this machine's own names alone.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from functools import partial
from urllib.parse import parse_qsl

from gateway.admin.keys import KeyAdministration
from gateway.assets.thumbnails import thumbnail
from gateway.console import budgets, figures, requests, routes
from gateway.console.administration import Administration
from gateway.console.files import SAFE, send_file
from gateway.console.page_data import CachedViews, PageData
from gateway.console.sessions import Sessions, cookie, cookie_name, secret_in
from gateway.domain.errors import Forbidden, InvalidApiKey, NotFound, RateLimited, Unavailable
from gateway.domain.links import is_name
from gateway.ports import Outbound
from gateway.ports.storage import StorageUnavailable
from gateway.process.reload import PolicyReloader
from gateway.web.admin import Page, Question, View, read_object, with_store
from gateway.web.admin_guard import AdminGuard
from gateway.web.context import Handler, RequestContext
from gateway.web.wrong_keys import CODE, WrongKeys

HOME, LOGIN = "/console", "/console/login"
OWN_HEADER = "x-console"
"""What the page's own scripts send with what changes something; no form and no other site can."""
EVENTS_SECONDS, WORD_SECONDS = 2.0, 15.0
"""Between two events at least, and the longest silence, so that nobody takes the connection for dead."""
MOST_WATCHERS = 64


class Console:
    """Of one process; `run` it while its pages are served. Streams of events end once `closing` is set."""

    def __init__(
        self,
        data: PageData,
        keys: KeyAdministration,
        reloader: PolicyReloader | None,
        token: str | None,
        closing: asyncio.Event,
        *,
        wrong_keys: WrongKeys,
    ) -> None:
        self._data = data
        self._administration = Administration(data, keys, reloader)
        self._guard = AdminGuard(token)
        self._sessions = Sessions()
        self._wrong_keys = wrong_keys
        self._closing = closing
        self._watchers = 0

    async def run(self) -> None:
        """Keep up with the ledger, once somebody has looked, until cancelled."""
        await self._data.follower.run()

    def pages(self) -> list[Page]:
        """Return all that is answered below `/console`."""
        data, found = self._data, self._administration
        views: dict[str, View] = {
            "overview": CachedViews(data, figures.overview).show,
            "spend": CachedViews(data, figures.spend).show,
            "budgets": CachedViews(data, budgets.budgets).show,
            "budget": CachedViews(data, budgets.burning).show,
            "routes": CachedViews(data, routes.routes).show,
            "requests": CachedViews(data, requests.requests).show,
            "request": partial(requests.request, data),
            "tasks": found.tasks,
            "policy": found.policy,
            "keys": found.all_keys,
            "session": self._session,
        }
        return [
            Page("GET", HOME, self._home),
            *(Page("GET", near, self._to_home) for near in ("/", f"{HOME}/")),
            Page("GET", LOGIN, self._login_page),
            Page("POST", LOGIN, self._login),
            Page("POST", f"{HOME}/logout", self._guarded(self._logout)),
            Page("GET", f"{HOME}/static/{{name}}", self._file),
            Page("GET", f"{HOME}/events", self._guarded(self._events)),
            Page("GET", f"{HOME}/images/{{name}}", self._guarded(self._image)),
            *(Page("GET", f"{HOME}/api/{name}", self._guarded(_shown(view))) for name, view in views.items()),
            *(
                Page("POST", f"{HOME}/api/{name}", self._guarded(_done(action)))
                for name, action in found.actions().items()
            ),
        ]

    def _guarded(self, handler: Handler) -> Handler:
        async def check(context: RequestContext) -> Outbound | None:
            self._check(context)
            self._data.follower.watch()
            return await handler(context)

        return with_store(check)

    def _check(self, context: RequestContext) -> None:
        self._guard.check_page(context)
        if context.scope["method"] == "POST" and OWN_HEADER not in context.headers:
            raise Forbidden("Only the console's own page may ask for this.", code="origin_not_allowed")
        if not self._is_known(context):
            raise InvalidApiKey("Please log in.", code="session_ended")

    def _is_known(self, context: RequestContext) -> bool:
        return self._guard.is_open or self._sessions.use(self._secret(context))

    def _secret(self, context: RequestContext) -> str:
        return secret_in(context.headers.get("cookie", ""), _cookie_of(context))

    async def _home(self, context: RequestContext) -> None:
        self._guard.check_page(context)
        if not self._is_known(context):
            await _redirect(context, LOGIN)
            return
        self._data.follower.watch()
        await send_file(context, "console.html")

    async def _to_home(self, context: RequestContext) -> None:
        self._guard.check_page(context)
        await _redirect(context, HOME)

    async def _login_page(self, context: RequestContext) -> None:
        self._guard.check_page(context)
        if self._guard.is_open:
            await _redirect(context, HOME)
            return
        await send_file(context, "login.html")

    async def _file(self, context: RequestContext) -> None:
        self._guard.check_page(context)
        await send_file(context, context.path_params["name"])

    async def _login(self, context: RequestContext) -> None:
        self._guard.check_page(context)
        if OWN_HEADER not in context.headers:
            raise Forbidden("Only the console's own page may ask for this.", code="origin_not_allowed")
        token = (await read_object(context)).get("token")
        if not isinstance(token, str) or not self._guard.has_token(token.encode()):
            wait = self._wrong_keys.note(context.scope, context.headers)
            if wait is None:
                raise InvalidApiKey("This is not the token of the admin plane.")
            raise RateLimited("Too many wrong tokens; please wait a minute.", code=CODE, retry_after=wait)
        self._data.follower.watch()
        await self._set_cookie(context, self._sessions.begin())

    async def _session(self, _: Mapping[str, str]) -> dict[str, object]:
        return {"login": not self._guard.is_open}

    async def _logout(self, context: RequestContext) -> None:
        self._sessions.end(self._secret(context))
        await self._set_cookie(context, "")

    async def _set_cookie(self, context: RequestContext, secret: str) -> None:
        encrypted = context.headers.get("origin", "").startswith("https://")  # it was compared with the host
        headers = [("set-cookie", cookie(_cookie_of(context), secret, encrypted=encrypted))]
        await context.start(204, [*headers, ("cache-control", "no-store"), ("x-request-id", context.request_id)])
        await context.write(b"", more=False)

    async def _image(self, context: RequestContext) -> None:
        name = context.path_params["name"]
        try:
            found = await self._data.application.storage.images.find(name) if is_name(name) else None
            small = None if found is None else await thumbnail(found.blob)
        except StorageUnavailable as error:
            raise Unavailable("The storage does not answer.", code="storage_unavailable", retry_after=2) from error
        if small is None:
            raise NotFound("There is no such image.")
        headers = [("content-type", "image/webp"), ("content-length", str(len(small))), *SAFE]
        await context.start(200, [*headers, ("cache-control", "private, max-age=3600")])
        await context.write(small, more=False)

    async def _events(self, context: RequestContext) -> None:
        """Tell whenever there is something new, until the client or the session or the process ends."""
        if self._watchers >= MOST_WATCHERS:
            raise Unavailable("Too many consoles are open.", code="overloaded", retry_after=10)
        self._watchers += 1
        gone = asyncio.create_task(context.client_gone())
        closing = asyncio.create_task(self._closing.wait())
        try:
            headers = [("content-type", "text/event-stream"), ("cache-control", "no-store"), *SAFE]
            await context.start(200, [*headers, ("x-accel-buffering", "no")])  # for proxies that would keep events back
            await self._tell(context, gone, closing)
            await context.write(b"", more=False)
        finally:
            self._watchers -= 1
            for task in (gone, closing):
                task.cancel()

    async def _tell(self, context: RequestContext, gone: asyncio.Task[None], closing: asyncio.Task[bool]) -> None:
        follower, secret, version = self._data.follower, self._secret(context), -1
        while not (gone.done() or closing.done()):
            follower.watch()
            version = follower.version
            told = {"version": version, "read": round(follower.progress(), 3), "away": bool(follower.trouble)}
            await context.write(f"data: {json.dumps(told)}\n\n".encode(), more=True)
            changed = asyncio.create_task(follower.changed(version, WORD_SECONDS))
            try:
                await asyncio.wait({gone, closing, changed}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                changed.cancel()
            if not (self._guard.is_open or self._sessions.goes_on(secret)):
                return
            await asyncio.wait({gone, closing}, timeout=EVENTS_SECONDS, return_when=asyncio.FIRST_COMPLETED)


def _shown(view: View) -> Handler:
    async def show(context: RequestContext) -> None:
        query = context.scope["query_string"].decode("latin-1")
        await context.answer_json(await view(dict(parse_qsl(query, keep_blank_values=True))))

    return show


def _done(action: Question) -> Handler:
    async def do(context: RequestContext) -> None:
        await context.answer_json(await action(await read_object(context)))

    return do


async def _redirect(context: RequestContext, where: str) -> None:
    await context.start(303, [("location", where), ("content-length", "0"), ("cache-control", "no-store"), *SAFE])
    await context.write(b"", more=False)


def _cookie_of(context: RequestContext) -> str:
    server = context.scope.get("server") or ("", 0)
    return cookie_name(int(server[1] or 0))
