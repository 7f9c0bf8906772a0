"""`image-gateway serve`: the gateway, in one process or several."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import click
import uvloop

from gateway.assets.place import Bucket, PlaceError, place_of
from gateway.cli.options import Fatal, listen_options, log_level_option, policy_option, store_options, together
from gateway.cli.running import address, admin_token, clear_errors, read_policy, secrets_of
from gateway.domain.policy import Policy
from gateway.domain.web_address import BadUrl, read_web_address
from gateway.ledger.store import store_url
from gateway.observe.log import configure_logging
from gateway.process.app import Settings
from gateway.process.serving import Serving, Sockets, serve_process
from gateway.process.workers import ADMIN, DATA, Inheritance, Supervisor, inherited
from gateway.web.limits import BodyLimits
from gateway.web.server import listen

MEGABYTE = 1_000_000


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
    click.option("--admin-host", default="127.0.0.1", show_default=True, envvar="IMAGE_GATEWAY_ADMIN_HOST"),
    click.option(
        "--workers", default=1, show_default=True, type=click.IntRange(1, 256), envvar="IMAGE_GATEWAY_WORKERS"
    ),
    click.option(
        "--grace",
        default=30.0,
        show_default=True,
        type=click.FloatRange(0),
        envvar="IMAGE_GATEWAY_GRACE",
        help="Seconds that running requests may take after SIGTERM.",
    ),
    click.option(
        "--lease",
        default=30.0,
        show_default=True,
        type=click.FloatRange(1),
        envvar="IMAGE_GATEWAY_LEASE",
        help="Seconds after which a hold whose gateway died is presumed spent.",
    ),
    click.option(
        "--store-timeout",
        default=0.09,
        show_default=True,
        type=click.FloatRange(0.01, 1.0),
        envvar="IMAGE_GATEWAY_STORE_TIMEOUT",
        help="Seconds for which the store may say nothing at all before it counts as away.",
    ),
    click.option(
        "--assets",
        default=None,
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
        type=click.IntRange(1),
        envvar="IMAGE_GATEWAY_MAX_BODY",
        help="Largest request body, in MB.",
    ),
    log_level_option("info"),
)


@click.command()
@policy_option
@listen_options
@store_options
@process_options
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
    lease: float,
    store_timeout: float,
    assets: str | None,
    public_url: str | None,
    max_body: int,
    log_level: str,
) -> None:
    """Serve the gateway: OpenAI-compatible on --port, metrics and administration on --admin-port.

    IMAGE_GATEWAY_PEPPER (else a file in the data directory) protects stored keys; IMAGE_GATEWAY_ADMIN_TOKEN guards
    the admin plane, and is required beyond the loopback address.
    """
    pepper = os.environ.get("IMAGE_GATEWAY_PEPPER")
    try:
        place = place_of(assets) if assets is not None else None
    except PlaceError as error:
        raise Fatal(f"--assets: {error}") from error
    folder, bucket = (None, place) if isinstance(place, Bucket) else (place, None)
    settings = Settings(data=data, assets=folder, bucket=bucket, public_url=public_url, realm=realm, pepper=pepper)
    serving = Serving(
        settings=replace(settings, lease=lease, grace=grace, store_timeout=store_timeout),
        policy=read_policy(policy, os.environ),
        directory=policy,
        limits=BodyLimits(total=max_body * MEGABYTE),
        admin_token=admin_token(admin_host),
    )
    pipe = configure_logging(log_level, sys.stderr, secrets_of(serving.policy))
    try:
        worker = inherited()
        with clear_errors():
            if worker is not None:
                _run_worker(serving, worker)
                return
            sockets = _listen((host, port), (admin_host, admin_port))
            with store_url(store, data) as url:
                _run(serving, url, sockets, workers)
    finally:
        pipe.stop()


def _listen(data: tuple[str, int], admin: tuple[str, int]) -> Sockets:
    return Sockets(listen(*data, option="--port"), listen(*admin, option="--admin-port"))


def _run_worker(serving: Serving, worker: Inheritance) -> None:
    data_socket = worker.socket if worker.role == DATA else None
    admin_socket = worker.socket if worker.role == ADMIN else None
    uvloop.run(
        serve_process(serving, worker.store_url, Sockets(data_socket, admin_socket, worker.lifeline, worker.ports))
    )


def _run(serving: Serving, url: str, sockets: Sockets, workers: int) -> None:
    def tell() -> None:
        _tell(serving.policy, sockets)

    if workers == 1:
        uvloop.run(serve_process(serving, url, sockets, ready=tell))
        return
    assert sockets.data
    assert sockets.admin
    tell()
    raise SystemExit(Supervisor(workers, sockets.data, sockets.admin, url).run())


def _tell(policy: Policy, sockets: Sockets) -> None:
    assert sockets.data
    assert sockets.admin
    click.echo(
        f"image-gateway: policy {policy.digest}; data plane http://{address(sockets.data.getsockname())}/v1, "
        f"admin plane http://{address(sockets.admin.getsockname())}"
    )
