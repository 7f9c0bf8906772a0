"""Spelling: which known word a misspelt one was meant to be, or would be taken for."""

from __future__ import annotations

from collections.abc import Collection, Iterable

_LONG = 7
"""Characters from which on a word may have two slips; short words are one slip away from words that mean it."""


def meant(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that is a slip or two (a character more, less or other) away from this one; else None."""
    for each in known:
        slips = 2 if len(each) >= _LONG else 1
        if abs(len(each) - len(word)) <= slips and 0 < _distance(word, each) <= slips:
            return each
    return None


def other_spelling(name: str, known: Collection[str]) -> str | None:
    """Return the known field that a provider may take this name for, though it is none; None if there is no such field.

    Some readers drop brackets (`n[]`), some ignore case (`N`): what is priced must be what is sent.
    """
    plain = name.casefold().partition("[")[0].strip()
    return plain if plain in known and name != plain else None


def _distance(one: str, other: str) -> int:
    """How many characters must be put in, taken out or changed to make one of the other (Levenshtein)."""
    row = list(range(len(other) + 1))
    for number, character in enumerate(one, 1):
        before, row[0] = row[0], number
        for place, wanted in enumerate(other, 1):
            before, row[place] = (
                row[place],
                min(row[place] + 1, row[place - 1] + 1, before + (character != wanted)),
            )
    return row[-1]
