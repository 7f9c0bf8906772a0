"""`image-gateway demo`: gateway, simulated providers and store on this machine, ready to be tried."""

from __future__ import annotations

import asyncio
import shlex
import shutil
import socket
import sys
from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from pathlib import Path
from typing import TypeVar

import click
import uvloop

from gateway.cli.numbers import Whole
from gateway.cli.options import (
    DEFAULT_REALM,
    EMBEDDED,
    demo_data,
    example,
    listen_options,
    log_level_option,
    store_options_at,
)
from gateway.cli.running import address, clear_errors, hidden, log_warnings, read_policy
from gateway.config.shipped import shipped_policies
from gateway.ledger.keys import Keys
from gateway.ledger.pepper import VARIABLE, check_pepper, load_pepper
from gateway.ledger.store import Store, store_url
from gateway.observe.log import configure_logging
from gateway.process.app import Settings
from gateway.process.serving import Serving, Sockets, serve_process
from gateway.sandbox.options import DEFAULT_KEY, SandboxOptions
from gateway.sandbox.server import serve_sandbox
from gateway.web.server import listen

Result = TypeVar("Result")

PROJECT = "demo"
WELCOME = """\
Image Gateway is running with simulated providers: no account, no cost.

  base URL   {base}
  API key    {key}
  console    http://{admin}/console
  metrics    http://{admin}/metrics
  the bill   {sandbox}/sandbox/bill

Try it (an image as base64 comes back, with its cost in X-Gateway-Cost or at /v1/requests/ID):

  curl -s {base}/images/generations -H "Authorization: Bearer {key}" -H "Content-Type: application/json" \
-d '{{"prompt": "a red bicycle on a beach"}}'

See what it cost:

  curl -s http://{admin}/metrics | grep spend_usd
  {spend}

Ctrl-C stops it."""


@click.command(
    short_help="Run everything on this machine, with simulated providers.",
    epilog=example("demo", "demo --data /tmp/demo --port 0"),
)
@listen_options
@click.option(
    "--sandbox-port",
    default=8081,
    show_default=True,
    type=Whole(0, 65535),
    envvar="IMAGE_GATEWAY_SANDBOX_PORT",
    help="The simulated providers.",
)
@store_options_at(demo_data, "the demo's own, beside a gateway's")
@log_level_option("warning")
def demo(
    host: str, port: int, admin_port: int, sandbox_port: int, store: str, data: Path, realm: str, log_level: str
) -> None:
    """Run everything on this machine, with providers that are simulated; prints a key and a curl line that works."""
    pipe = configure_logging(log_level, sys.stderr, [DEFAULT_KEY])
    try:
        with clear_errors():
            sandbox = listen("127.0.0.1", sandbox_port, option="--sandbox-port")
            sockets = Sockets(
                listen(host, port, option="--port", host_option="--host"),
                listen("127.0.0.1", admin_port, option="--admin-port"),
            )
            sandbox_url = f"http://{address(sandbox.getsockname())}"
            environ = {"IMAGE_GATEWAY_SANDBOX_URL": sandbox_url, "IMAGE_GATEWAY_SANDBOX_KEY": DEFAULT_KEY}
            policy, warnings, _ = read_policy(shipped_policies() / "demo", environ)
            log_warnings(warnings)
            settings = Settings(
                data=data, realm=realm, pepper=hidden(VARIABLE), grace=5.0, public_url=_own_url(sockets.data)
            )
            with store_url(store, data) as url:
                key = asyncio.run(_with_keys(url, settings, lambda keys: keys.create(PROJECT, name=PROJECT)))
                words = _welcome(sockets, sandbox_url, key.secret, _spend_command(store, data, realm))
                try:
                    uvloop.run(_run(Serving(settings, policy), url, sockets, sandbox, words))
                finally:
                    # Nobody keeps the secret, so the key ends with its demo.
                    asyncio.run(_with_keys(url, settings, lambda keys: keys.revoke(key.record.id)))
    finally:
        pipe.stop()


async def _run(serving: Serving, url: str, sockets: Sockets, sandbox: socket.socket, words: str) -> None:
    providers = asyncio.create_task(serve_sandbox(SandboxOptions(), sock=sandbox))
    try:
        await serve_process(serving, url, sockets, ready=lambda: click.echo(words))
    finally:
        providers.cancel()
        await asyncio.gather(providers, return_exceptions=True)


async def _with_keys(url: str, settings: Settings, work: Callable[[Keys], Awaitable[Result]]) -> Result:
    connection = Store(url, deadline=5.0, realm=settings.realm)
    try:
        pepper = load_pepper(settings.data, settings.pepper)
        await check_pepper(connection, pepper, settings.realm)
        return await work(Keys(connection, pepper, settings.realm))
    finally:
        await connection.aclose()


def _welcome(sockets: Sockets, sandbox_url: str, key: str, spend: str) -> str:
    assert sockets.data
    assert sockets.admin
    return WELCOME.format(
        base=f"http://{address(sockets.data.getsockname())}/v1",
        key=key,
        admin=address(sockets.admin.getsockname()),
        sandbox=sandbox_url,
        spend=spend,
    )


def _spend_command(store: str, data: Path, realm: str) -> str:
    """The command that reports on this very store, as it can be typed in any terminal."""
    words = [_own_name(), "spend"]
    if store != EMBEDDED:
        words += ["--store", store]
    else:
        words += ["--data", str(data.absolute())]
    if realm != DEFAULT_REALM:
        words += ["--realm", realm]
    return shlex.join(words)


def _own_url(data: socket.socket | None) -> str | None:
    """Where clients of this machine alone reach it, so that links to images serve as input as well."""
    assert data
    name = data.getsockname()
    return f"http://{address(name)}" if ip_address(name[0]).is_loopback else None


def _own_name() -> str:
    """How this very program is typed anywhere: by its name where the shell finds it by that, else by its whole path."""
    name = "image-gateway"
    if Path(sys.argv[0]).name != name:
        return name
    found = shutil.which(name)
    return name if found and Path(found).samefile(sys.argv[0]) else str(Path(sys.argv[0]).absolute())
