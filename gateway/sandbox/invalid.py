"""What a provider refuses of a request's fields."""

from __future__ import annotations


class Invalid(Exception):
    """A field that is refused: its name, and the provider's word for why."""

    def __init__(self, field: str, kind: str, message: str) -> None:
        super().__init__(message)
        self.field = field
        self.kind = kind
