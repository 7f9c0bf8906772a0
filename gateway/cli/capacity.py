"""Options that bound what one process takes on at once."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import click

from gateway.cli.numbers import Whole
from gateway.cli.options import together
from gateway.process.memory import usual_limit
from gateway.web.shedding import ProcessLimits

MEGABYTE = 1_000_000
Result = TypeVar("Result")

_options = together(
    click.option(
        "--max-requests",
        default=10_000,
        show_default=True,
        type=Whole(1),
        envvar="IMAGE_GATEWAY_MAX_REQUESTS",
        help="Requests in flight in each process; more get 503 at once.",
    ),
    click.option(
        "--max-bodies",
        default=4096,
        show_default=True,
        type=Whole(1),
        envvar="IMAGE_GATEWAY_MAX_BODIES",
        help="Bodies of requests in flight in each process, MB in all; more get 503 before they are read.",
    ),
    click.option(
        "--max-memory",
        default=None,
        show_default="85 % of the machine's or container's, shared by the workers",
        type=Whole(0),
        envvar="IMAGE_GATEWAY_MAX_MEMORY",
        help="Memory of each process, MB, above which new requests get 503; 0 for no bound.",
    ),
)


def capacity_options(command: Callable[..., Result]) -> Callable[..., Result]:
    """Add the options to a command that takes `workers`; what they say comes as one argument, `capacity`."""

    @functools.wraps(command)
    def combined(
        *arguments: Any, max_requests: int, max_bodies: int, max_memory: int | None, workers: int, **others: Any
    ) -> Result:
        memory = usual_limit(workers) if max_memory is None else max_memory * MEGABYTE
        capacity = ProcessLimits(requests=max_requests, bodies=max_bodies * MEGABYTE, memory=memory)
        return command(*arguments, capacity=capacity, workers=workers, **others)

    return _options(combined)
