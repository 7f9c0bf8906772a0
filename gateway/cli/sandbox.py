"""`image-gateway sandbox`: the simulated providers alone."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket

import click

from gateway.cli.numbers import Seconds, Whole
from gateway.cli.options import example
from gateway.cli.running import clear_errors
from gateway.sandbox.options import SandboxOptions
from gateway.sandbox.server import serve_sandbox
from gateway.web.server import listen


@click.command(short_help="Serve simulated image providers.", epilog=example("sandbox --port 8081 --latency 2"))
@click.option(
    "--host", default="127.0.0.1", show_default=True, envvar="IMAGE_GATEWAY_SANDBOX_HOST", help="Address to listen at."
)
@click.option(
    "--port",
    default=8081,
    show_default=True,
    type=Whole(0, 65535),
    envvar="IMAGE_GATEWAY_SANDBOX_PORT",
    help="0 takes a free one.",
)
@click.option(
    "--key",
    default=None,
    envvar="IMAGE_GATEWAY_SANDBOX_KEY",
    help="The one key its providers accept; any if not given.",
)
@click.option("--latency", default=0.15, show_default=True, type=Seconds(0, 600), help="Seconds of work a request.")
@click.option(
    "--work-seconds",
    default=0.3,
    show_default=True,
    type=Seconds(0, 3600),
    help="Seconds of work of providers that answer later.",
)
@click.option(
    "--images-per-minute",
    type=Whole(1),
    default=None,
    help="Rate limit of the account, for every model family.",
)
def sandbox(
    host: str, port: int, key: str | None, latency: float, work_seconds: float, images_per_minute: int | None
) -> None:
    """Serve simulated image providers, with real images, a bill and scripted faults.

    For anybody's tests: point a client at the URL it prints.
    """
    options = SandboxOptions(
        api_key=key or None, latency=latency, work_seconds=work_seconds, images_per_minute=images_per_minute or {}
    )
    with clear_errors():
        asyncio.run(_run(options, listen(host, port, option="--port", host_option="--host")))


async def _run(options: SandboxOptions, sock: socket.socket) -> None:
    """Serve until SIGTERM or SIGINT; the latter also where a shell started it in the background and had it ignored."""
    serving = asyncio.create_task(serve_sandbox(options, sock=sock, ready=lambda url: _tell(url, options)))
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, serving.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await serving


def _tell(url: str, options: SandboxOptions) -> None:
    click.echo(
        f"sandbox: {url} (the providers and their base URLs; they accept {options.accepted}), "
        f"{url}/sandbox/bill, {url}/sandbox/faults"
    )
