"""About: the description of a request in its ledger record, shared by identical requests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.domain.job import AUTO, OF_MODELS, Job, Operation

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


def job_of(about: Mapping[str, Any], operation: str) -> Job:
    """Return the job that a record tells of, but for its prompt, of which it says only how long it was."""
    return Job(
        operation=Operation(operation) if operation in OF_MODELS else Operation.GENERATE,
        client_model=about.get("client_model"),
        prompt_chars=int(about.get("text_chars") or about.get("text_bytes") or 0),
        prompt_bytes=int(about.get("text_bytes") or 0),
        n=max(int(about.get("n") or 1), 1),
        size=str(about.get("size") or AUTO),
        quality=str(about.get("quality") or AUTO),
        background=str(about.get("background") or AUTO),
        output_format=about.get("output_format"),
        mask=bool(about.get("mask")),
        references=int(about.get("references") or 0),
        stream=bool(about.get("stream")),
        partial_images=int(about.get("partial_images") or 0),
        resolution=about.get("resolution"),
        mapped=tuple(map(str, about.get("mapped") or ())),
        assumed=tuple(map(str, about.get("assumed") or ())),
        retired_model=about.get("retired_model"),
    )
