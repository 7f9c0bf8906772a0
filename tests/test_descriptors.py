"""The limit of open files, raised in a process of its own."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import logging, resource
from gateway.process.descriptors import raise_limit
logging.basicConfig(level=logging.INFO, format="%(message)s")
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 1000))
print(raise_limit(400), resource.getrlimit(resource.RLIMIT_NOFILE))
raise_limit(401)
"""


def test_the_limit_is_raised_and_what_it_lacks_is_said() -> None:
    """The soft limit becomes the hard one; a word is said only where so many requests may need more."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert done.stdout == "1000 (1000, 1000)\n"
    assert done.stderr.splitlines() == [
        "the system allows 1000 open files, enough for 400 requests in flight; --max-requests is 401"
    ]
