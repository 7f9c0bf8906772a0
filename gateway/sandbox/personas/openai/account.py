"""OpenAI as a persona: all that one account offers."""

from __future__ import annotations

from starlette.types import ASGIApp

from gateway.sandbox.fault_catalog import Feature
from gateway.sandbox.personas.openai.persona import PREFIX, PROVIDER
from gateway.sandbox.personas.openai.talks import OpenAIWithTalks
from gateway.sandbox.world import Persona, World


def _build(world: World) -> ASGIApp:
    return OpenAIWithTalks(world).app()


OPENAI = Persona(PROVIDER, PREFIX, _build, features=(Feature.STREAMS, Feature.BATCHES))
