"""What all simulated providers of one sandbox share."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from starlette.types import ASGIApp

from gateway.sandbox.arrivals import Arrivals
from gateway.sandbox.bill import Bill
from gateway.sandbox.faults import Faults
from gateway.sandbox.options import SandboxOptions
from gateway.sandbox.pictures import Gallery


class World:
    """Options, bill, arrivals, faults and pictures of one sandbox."""

    def __init__(self, options: SandboxOptions, providers: Collection[str]) -> None:
        self.options = options
        self.bill = Bill()
        self.arrivals = Arrivals(options.kept_requests)
        self.faults = Faults(providers)
        self.gallery = Gallery()


@dataclass(frozen=True, slots=True)
class Persona:
    """A provider that can be simulated: its name in faults and on the bill, where it answers, and its application."""

    name: str
    prefix: str
    build: Callable[[World], ASGIApp]
