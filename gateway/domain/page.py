"""Pages: how many entries of a list are asked for."""

from __future__ import annotations

from gateway.domain.errors import InvalidRequest

MOST_LISTED = 100
_USUAL = 20


def page_limit(text: str | None) -> int:
    """Return how many entries a page shall have, by what `limit` says; InvalidRequest if it says nothing usable."""
    if text is None:
        return _USUAL
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(MOST_LISTED)) and 0 < int(text) <= MOST_LISTED):
        raise InvalidRequest(f"limit must be a whole number from 1 to {MOST_LISTED}.", param="limit")
    return int(text)
