"""The control plane: bill, requests and faults over HTTP, for whoever runs the test. No key is asked for."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway import __version__
from gateway.sandbox.fault_catalog import FAULTS
from gateway.sandbox.faults import FaultError
from gateway.sandbox.json_response import PlainJSON
from gateway.sandbox.world import Persona, World

_Endpoint = Callable[[Request], Awaitable[Response]]


def control_routes(world: World, personas: Sequence[Persona]) -> list[Route]:
    """Return the routes of `/` and `/sandbox`."""
    about = _about(personas, world)
    faults = _Faults(world)
    return [
        Route("/", about),
        Route("/sandbox", about),
        Route("/sandbox/bill", _shown(world.bill.as_json), methods=["GET"]),
        Route("/sandbox/bill", _cleared(world.bill.clear), methods=["DELETE"]),
        Route("/sandbox/requests", _shown(world.arrivals.as_json), methods=["GET"]),
        Route("/sandbox/requests", _cleared(world.arrivals.clear), methods=["DELETE"]),
        Route("/sandbox/images", _shown(world.gallery.as_json), methods=["GET"]),
        Route("/sandbox/images", _cleared(world.gallery.clear), methods=["DELETE"]),
        Route("/sandbox/tasks", _shown(world.works.as_json), methods=["GET"]),
        Route("/sandbox/tasks", _cleared(world.clear_work), methods=["DELETE"]),
        Route("/sandbox/tasks/{provider}/{task}/finish", _finishing(world), methods=["POST"]),
        Route("/sandbox/faults", _shown(world.faults.as_json), methods=["GET"]),
        Route("/sandbox/faults", faults.add, methods=["POST"]),
        Route("/sandbox/faults", _cleared(world.faults.clear), methods=["DELETE"]),
        Route("/sandbox/faults/{fault_id}", faults.remove, methods=["DELETE"]),
    ]


def nowhere(personas: Sequence[Persona]) -> Callable[[Request, Exception], Response]:
    """Return what answers for paths at which nothing is: mostly a base URL that lacks its provider."""
    prefixes = ", ".join(f"{persona.prefix}{persona.api}" for persona in personas)

    def refuse(request: Request, _: Exception) -> Response:
        return _refused(404, f"Nothing is at {request.url.path}. Providers are at {prefixes}; GET / tells more.")

    return refuse


def _about(personas: Sequence[Persona], world: World) -> _Endpoint:
    async def about(request: Request) -> Response:
        base = str(request.base_url).rstrip("/")
        return PlainJSON(
            {
                "name": "Image Gateway sandbox",
                "version": __version__,
                "what": "Simulated image providers: real answers, real errors, a bill, and faults on demand.",
                "providers": {persona.name: f"{base}{persona.prefix}{persona.api}" for persona in personas},
                "keys": f"The providers accept {world.options.accepted}.",
                "control": {
                    "GET, DELETE /sandbox/bill": "what the providers would charge for, in nano-USD",
                    "GET, DELETE /sandbox/requests": "what arrived",
                    "GET, DELETE /sandbox/images": "which images were given out, with their hashes",
                    "GET, DELETE /sandbox/tasks": "work that is answered later, and how far it is",
                    "POST /sandbox/tasks/{provider}/{id}/finish": "lets work be over now",
                    "GET, POST, DELETE /sandbox/faults": 'what shall go wrong, e.g. {"fault": "timeout", "times": 1}',
                },
                "faults": list(FAULTS),
            }
        )

    return about


def _shown(read: Callable[[], dict[str, object]]) -> _Endpoint:
    async def show(_: Request) -> Response:
        return PlainJSON(read())

    return show


def _cleared(clear: Callable[[], None]) -> _Endpoint:
    async def reset(_: Request) -> Response:
        clear()
        return Response(status_code=204)

    return reset


def _finishing(world: World) -> _Endpoint:
    async def finish(request: Request) -> Response:
        work = world.works.find(request.path_params["provider"], request.path_params["task"])
        if work is None:
            return _refused(404, f"no task {request.path_params['task']!r}")
        world.works.finish(work)
        return PlainJSON(work.as_json())

    return finish


class _Faults:
    """Adding and removing faults."""

    def __init__(self, world: World) -> None:
        self._faults = world.faults

    async def add(self, request: Request) -> Response:
        try:
            fault = self._faults.add(json.loads(await request.body()))
        except ValueError:
            return _refused(400, "the body is not JSON")
        except FaultError as error:
            return _refused(400, str(error))
        return PlainJSON(fault.as_json(), 201)

    async def remove(self, request: Request) -> Response:
        fault_id = request.path_params["fault_id"]
        if not self._faults.remove(fault_id):
            return _refused(404, f"no fault {fault_id!r}")
        return Response(status_code=204)


def _refused(status: int, message: str) -> Response:
    return PlainJSON({"error": {"message": message}}, status)
