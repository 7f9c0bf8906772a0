"""The descriptions of both planes: `python -m tests.security.description` writes them to docs/."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from starlette.routing import Route

from gateway.facade import Gateway
from gateway.web.admin import create_admin_app
from gateway.web.app import create_app
from gateway.web.openapi import describe, encoded
from gateway.web.openapi_admin import ADMIN
from gateway.web.openapi_data import DATA

DOCS = Path(__file__).parents[2] / "docs"
VIEWS = ("spend", "budgets", "routes", "callbacks", "keys")
ACTIONS = ("reload", "callbacks/{id}/retry", "keys/{id}/revoke")
QUESTIONS = ("explain", "keys", "keys/{id}/rotate")


class _Nobody:
    """Stands where nothing is called: only the table of paths is read."""

    def __getattr__(self, name: str) -> object:
        return lambda *_: name


async def _nothing(*_: object) -> Any:
    return None


def data_routes() -> list[Route]:
    """The data plane's table of paths."""
    return cast("list[Route]", create_app(cast("Gateway", _Nobody())).router.routes)


def admin_routes() -> list[Route]:
    """The admin plane's, without the console's."""
    app = create_admin_app(
        metrics=_nothing,
        token=None,
        health=_nothing,
        views=dict.fromkeys(VIEWS, _nothing),
        actions=dict.fromkeys(ACTIONS, _nothing),
        questions=dict.fromkeys(QUESTIONS, _nothing),
    )
    return cast("list[Route]", app.router.routes)


def descriptions() -> dict[Path, bytes]:
    """Each file with what it should hold."""
    return {
        DOCS / "openapi-data.json": encoded(describe(DATA, data_routes())),
        DOCS / "openapi-admin.json": encoded(describe(ADMIN, admin_routes())),
    }


if __name__ == "__main__":
    for path, content in descriptions().items():
        path.write_bytes(content)
