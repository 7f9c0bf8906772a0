"""Where the policies that ship with the gateway are: its catalog, the default one, the demo's."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent.parent


def shipped_policies() -> Path:
    """Return the directory that holds `catalog`, `default` and `demo`: inside an installed wheel, or the checkout's."""
    installed = _PACKAGE / "_policies"
    return installed if installed.is_dir() else _PACKAGE.parent / "policies"
