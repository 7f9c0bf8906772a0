"""Options that say who is believed about where requests come from, and how many wrong keys an address may send."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import click

from gateway.cli.numbers import Whole
from gateway.cli.options import together
from gateway.web.callers import Callers, Network, read_networks
from gateway.web.wrong_keys import PER_MINUTE, WrongKeys

Result = TypeVar("Result")


def _networks(_context: click.Context, _option: click.Parameter, value: str) -> tuple[Network, ...]:
    try:
        return read_networks(value)
    except ValueError as error:
        raise click.BadParameter(f"{error}; name addresses or networks such as 10.0.0.0/8,::1") from error


_options = together(
    click.option(
        "--trusted-proxies",
        default="",
        show_default="none",
        callback=_networks,
        envvar="IMAGE_GATEWAY_TRUSTED_PROXIES",
        metavar="NETWORKS",
        help="Proxies that are believed about a client's address, such as 10.0.0.0/8,::1.",
    ),
    click.option(
        "--max-wrong-keys",
        default=PER_MINUTE,
        show_default=True,
        type=Whole(0),
        envvar="IMAGE_GATEWAY_MAX_WRONG_KEYS",
        help="Wrong keys a minute from one address in each process before they get 429; 0 for no bound.",
    ),
)


def caller_options(command: Callable[..., Result]) -> Callable[..., Result]:
    """Add the options to a command; what they say comes as one argument, `wrong_keys`."""

    @functools.wraps(command)
    def combined(*arguments: Any, trusted_proxies: tuple[Network, ...], max_wrong_keys: int, **others: Any) -> Result:
        return command(*arguments, wrong_keys=WrongKeys(max_wrong_keys, Callers(trusted_proxies)), **others)

    return _options(combined)
