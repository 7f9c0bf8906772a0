"""`image-gateway serve`: the gateway, in one process or several."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path

import click
import uvloop

from gateway.assets.location import Bucket, LocationError, location_of, usable
from gateway.cli.callers import caller_options
from gateway.cli.capacity import MEGABYTE, capacity_options
from gateway.cli.numbers import Seconds, Whole
from gateway.cli.observing import Observing, observing_options
from gateway.cli.options import (
    EMBEDDED,
    Fatal,
    example,
    listen_options,
    policy_option,
    store_options,
    together,
)
from gateway.cli.running import (
    address,
    admin_token,
    clear_errors,
    hidden,
    log_warnings,
    read_policy,
    revealed,
    secrets_of,
)
from gateway.domain.policy import Policy
from gateway.domain.web_address import BadUrl, read_web_address
from gateway.ledger.address import without_secrets
from gateway.ledger.store import store_url
from gateway.observe.redact import Redactor
from gateway.process.app import Settings
from gateway.process.serving import Serving, Sockets, serve_process
from gateway.process.workers import ADMIN, BEYOND_GRACE, DATA, Inheritance, Supervisor, inherited
from gateway.web.limits import BodyLimits
from gateway.web.server import listen
from gateway.web.shedding import ProcessLimits
from gateway.web.wrong_keys import WrongKeys

_DAY = 86_400
"""Seconds; a longer wait is a mistake of the unit."""


def _location(_context: click.Context, _option: click.Parameter, value: str | None) -> Path | Bucket | None:
    try:
        return None if value is None else location_of(value)
    except LocationError as error:
        raise click.BadParameter(str(error)) from error


def _public_url(_context: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    if value is None:
        return None
    try:
        address = read_web_address(value)
    except BadUrl as error:
        raise click.BadParameter(error.message) from error
    if address.query:
        raise click.BadParameter("it must not have a query string: paths are put behind it")
    return str(address).rstrip("/")


process_options = together(
    click.option(
        "--admin-host",
        default="127.0.0.1",
        show_default=True,
        envvar="IMAGE_GATEWAY_ADMIN_HOST",
        help="Admin plane; beyond loopback it needs IMAGE_GATEWAY_ADMIN_TOKEN.",
    ),
    click.option(
        "--workers",
        default=1,
        show_default=True,
        type=Whole(1, 256),
        envvar="IMAGE_GATEWAY_WORKERS",
        help="Processes on the data plane.",
    ),
    click.option(
        "--grace",
        default=30.0,
        show_default=True,
        type=Seconds(0, _DAY),
        envvar="IMAGE_GATEWAY_GRACE",
        help="Seconds that running requests may take after SIGTERM.",
    ),
    click.option(
        "--shutdown-delay",
        default=0.0,
        show_default=True,
        type=Seconds(0, _DAY),
        envvar="IMAGE_GATEWAY_SHUTDOWN_DELAY",
        help="Seconds after SIGTERM in which it serves on but is not ready, so that balancers look elsewhere first.",
    ),
    click.option(
        "--lease",
        default=30.0,
        show_default=True,
        type=Seconds(1, _DAY),
        envvar="IMAGE_GATEWAY_LEASE",
        help="Seconds after which a hold whose gateway died is presumed spent.",
    ),
    click.option(
        "--store-timeout",
        default=0.075,
        show_default=True,
        type=Seconds(0.01, 1.0),
        envvar="IMAGE_GATEWAY_STORE_TIMEOUT",
        help="Seconds for which the store may say nothing at all before it counts as away.",
    ),
    click.option(
        "--assets",
        default=None,
        callback=_location,
        show_default="in the data directory",
        envvar="IMAGE_GATEWAY_ASSETS",
        metavar="PLACE",
        help="Directory, or s3://bucket/prefix, for kept answers and images; gateways that share a store share it.",
    ),
    click.option(
        "--public-url",
        default=None,
        callback=_public_url,
        show_default="http:// and the host of each request",
        envvar="IMAGE_GATEWAY_PUBLIC_URL",
        help="Address under which clients reach the gateway, for links to images, such as https://images.example.com.",
    ),
    click.option(
        "--max-body",
        default=128,
        show_default=True,
        type=Whole(1),
        envvar="IMAGE_GATEWAY_MAX_BODY",
        help="Largest request body, in MB.",
    ),
)


@click.command(
    short_help="Serve the gateway.",
    epilog=example("serve --policy policy/", "serve --policy policy/ --store redis://127.0.0.1/0 --workers 2"),
)
@policy_option
@listen_options
@store_options
@process_options
@capacity_options
@caller_options
@observing_options
def serve(
    policy: Path,
    host: str,
    port: int,
    admin_host: str,
    admin_port: int,
    store: str,
    data: Path,
    realm: str,
    workers: int,
    grace: float,
    shutdown_delay: float,
    lease: float,
    store_timeout: float,
    assets: Path | Bucket | None,
    public_url: str | None,
    max_body: int,
    capacity: ProcessLimits,
    wrong_keys: WrongKeys,
    observing: Observing,
) -> None:
    """Serve the gateway: OpenAI-compatible on --port, metrics and administration on --admin-port.

    IMAGE_GATEWAY_PEPPER (else a file in the data directory) protects stored keys; IMAGE_GATEWAY_ADMIN_TOKEN guards
    the admin plane, and is required beyond the loopback address.
    """
    pepper, token = hidden("IMAGE_GATEWAY_PEPPER"), admin_token(admin_host)
    checked, warnings, source = read_policy(policy, os.environ)
    folder, bucket = _place(assets, data)  # last, for it makes a folder
    settings = Settings(data=data, assets=folder, bucket=bucket, public_url=public_url, realm=realm, pepper=pepper)
    serving = Serving(
        settings=replace(settings, lease=lease, grace=grace, store_timeout=store_timeout, requests=capacity.requests),
        policy=checked,
        source=source,
        limits=BodyLimits(total=max_body * MEGABYTE),
        capacity=capacity,
        wrong_keys=wrong_keys,
        admin_token=token,
        delay=shutdown_delay,
    )
    redactor = Redactor([*secrets_of(serving.policy), *revealed(settings.pepper, serving.admin_token)])
    with observing.running(redactor) as tracing, clear_errors():
        watched = replace(serving.settings, tracing=tracing, adopting=lambda new: redactor.learn(secrets_of(new)))
        serving = replace(serving, settings=watched)
        if (worker := inherited()) is not None:
            _run_worker(serving, worker)
            return
        log_warnings(warnings)
        _run(serving, store, _listen((host, port), (admin_host, admin_port)), workers)


def _place(assets: Path | Bucket | None, data: Path) -> tuple[Path | None, Bucket | None]:
    if isinstance(assets, Bucket):
        return None, assets
    try:
        return usable(data / "assets" if assets is None else assets), None
    except LocationError as error:
        raise Fatal(f"{'--data' if assets is None else '--assets'}: {error}") from error


def _listen(data: tuple[str, int], admin: tuple[str, int]) -> Sockets:
    return Sockets(
        listen(*data, option="--port", host_option="--host"),
        listen(*admin, option="--admin-port", host_option="--admin-host"),
    )


def _run_worker(serving: Serving, worker: Inheritance) -> None:
    data_socket = worker.socket if worker.role == DATA else None
    admin_socket = worker.socket if worker.role == ADMIN else None
    sockets = Sockets(data_socket, admin_socket, worker.lifeline, worker.ports, worker.reload_all)
    uvloop.run(serve_process(serving, worker.store_url, sockets, ready=worker.serves))


def _run(serving: Serving, store: str, sockets: Sockets, workers: int) -> None:
    def tell() -> None:
        where = f"{EMBEDDED} in {serving.settings.data}" if store == EMBEDDED else without_secrets(store)
        _tell(serving.policy, where, sockets)

    for name in (signal.SIGUSR1, signal.SIGUSR2):  # of log rotation and such; their default is to end a program
        signal.signal(name, signal.SIG_IGN)
    with store_url(store, serving.settings.data, watched=True) as url:
        if workers == 1:
            uvloop.run(serve_process(serving, url, sockets, ready=tell))
            return
        assert sockets.data
        assert sockets.admin
        patience = serving.delay + serving.settings.grace + BEYOND_GRACE
        supervisor = Supervisor(workers, sockets.data, sockets.admin, url, patience=patience, ready=tell)
        raise SystemExit(supervisor.run())


def _tell(policy: Policy, store: str, sockets: Sockets) -> None:
    assert sockets.data
    assert sockets.admin
    click.echo(
        f"image-gateway: policy {policy.digest}; store {store}; data plane "
        f"http://{address(sockets.data.getsockname())}/v1, admin plane http://{address(sockets.admin.getsockname())}"
    )
