"""About: what the ledger's record says of a request, made once for all that are alike."""

from __future__ import annotations

from operator import is_


class About(dict[str, object]):
    """No prompt, no secret, no image; never changed once it is made.

    `written` is it as JSON, kept by whoever writes it first.
    """

    __slots__ = ("_made_of", "written")

    def __init__(self, told: dict[str, object], made_of: tuple[object, ...]) -> None:
        super().__init__(told)
        self._made_of = made_of
        self.written: str | None = None

    def is_of(self, things: tuple[object, ...]) -> bool:
        """Tell whether it was made of these very objects, and so says of them what it would if it were made now."""
        return all(map(is_, self._made_of, things))
