"""About: what the ledger's record says of a request, made once for all that are alike."""

from __future__ import annotations

MadeOf = tuple[object, object, object, object, object, object]


class About(dict[str, object]):
    """No prompt, no secret, no image; never changed once it is made.

    `written` is it as JSON, kept by whoever writes it first.
    """

    __slots__ = ("_made_of", "written")

    def __init__(self, told: dict[str, object], made_of: MadeOf) -> None:
        super().__init__(told)
        self._made_of = made_of
        self.written: str | None = None

    def is_of(self, things: MadeOf) -> bool:
        """Tell whether it was made of these very objects, and so says of them what it would if it were made now."""
        a, b, c, d, e, f = self._made_of
        u, v, w, x, y, z = things  # one by one, which takes a quarter of the time of a loop
        return a is u and b is v and c is w and d is x and e is y and f is z
