"""The sandbox as one ASGI application: every persona under its prefix, and the control plane beside them."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.types import ASGIApp

from gateway.sandbox.arrivals import Recorder
from gateway.sandbox.control import control_routes, nowhere
from gateway.sandbox.options import SandboxOptions
from gateway.sandbox.personas.azure.persona import AZURE
from gateway.sandbox.personas.bfl.persona import BFL
from gateway.sandbox.personas.evolink.persona import EVOLINK
from gateway.sandbox.personas.fal.persona import FAL
from gateway.sandbox.personas.gemini.persona import GEMINI
from gateway.sandbox.personas.likes.persona import LIKE_PERSONAS
from gateway.sandbox.personas.openai.account import OPENAI
from gateway.sandbox.personas.replicate.persona import REPLICATE
from gateway.sandbox.world import World

PERSONAS = (OPENAI, EVOLINK, FAL, REPLICATE, BFL, GEMINI, AZURE, *LIKE_PERSONAS)


def create_sandbox(options: SandboxOptions | None = None) -> ASGIApp:
    """Return a sandbox with a bill, a request list and faults of its own.

    Serve it by `gateway.sandbox.server`: faults that close or reset a socket need its protocol class.
    """
    world = World(options or SandboxOptions(), {persona.name: persona.features for persona in PERSONAS})
    mounts = [
        Mount(persona.prefix, app=Recorder(persona.build(world), persona.name, world.arrivals)) for persona in PERSONAS
    ]
    routes = [*control_routes(world, PERSONAS), *mounts]
    return Starlette(routes=routes, exception_handlers={404: nowhere(PERSONAS)})
