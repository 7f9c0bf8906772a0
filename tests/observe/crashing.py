"""The gateway with a mistake of its own: `python -m tests.observe.crashing serve …`. Nothing else breaks on demand.

The mistake is made where a settlement is worked out, of what the gateway has in hand then: all of it is among the
locals of the frames that the traceback tells of.
"""

from __future__ import annotations

from typing import NoReturn

from gateway.cli.main import main
from gateway.request import answer_handling


def mistake(*asked: object, **more: object) -> NoReturn:
    """Raise what nobody expects."""
    told = (asked, more)
    raise RuntimeError(f"a mistake of the gateway's own, with {len(told)} things in hand")


if __name__ == "__main__":
    setattr(answer_handling, "settle", mistake)  # noqa: B010 - the name is nobody else's to see, so mypy would object
    main(prog_name="image-gateway")
