"""What all simulated providers of one sandbox share."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from starlette.types import ASGIApp

from gateway.sandbox.arrivals import Arrivals
from gateway.sandbox.bill import Bill
from gateway.sandbox.callbacks import Callbacks
from gateway.sandbox.fault_catalog import Feature
from gateway.sandbox.faults import Faults
from gateway.sandbox.options import SandboxOptions
from gateway.sandbox.pictures import Gallery
from gateway.sandbox.work import Works


class World:
    """Options, bill, arrivals, faults, pictures, work and calls back of one sandbox."""

    def __init__(self, options: SandboxOptions, providers: Mapping[str, Collection[Feature]]) -> None:
        self.options = options
        self.bill = Bill()
        self.arrivals = Arrivals(options.kept_requests)
        self.faults = Faults(providers)
        self.gallery = Gallery(options.kept_requests)
        self.works = Works(options, self.bill)
        self.callbacks = Callbacks(options)
        self.forgetting: list[Callable[[], None]] = []
        """What personas forget with their work."""

    def clear_work(self) -> None:
        """Forget all work and call nobody back any more."""
        self.works.clear()
        self.callbacks.clear()
        for forget in self.forgetting:
            forget()


@dataclass(frozen=True, slots=True)
class Persona:
    """A provider that can be simulated: its name in faults and on the bill, where it answers, and its application.

    `api` is where, below the prefix, its API begins; where that is a version, it may be left out at most of them.
    Whoever scripts a fault for it that needs what is not among its `features` is told so.
    """

    name: str
    prefix: str
    build: Callable[[World], ASGIApp]
    api: str = ""
    features: Collection[Feature] = ()
