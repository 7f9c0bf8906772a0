"""Model names: which model of the ledger an invoice means by what it says."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from gateway.domain.invoice import Row
from gateway.domain.reconciling import Booked
from gateway.domain.spend import NO_REQUEST


class ModelNames:
    """Finds the model that an invoice means: it may use the name sent to the provider, and add words of its own."""

    def __init__(self, booked: Collection[Booked]) -> None:
        self._known: dict[str, str] = {}
        for each in booked:
            self._known.setdefault(each.upstream_model.casefold(), each.model)
            self._known.setdefault(each.text_model.casefold(), each.text_model)
        for each in booked:
            if each.request_id != NO_REQUEST:
                self._known[each.model.casefold()] = each.model
        for each in booked:  # last: it may have the invoice's name of one of those
            self._known.setdefault(each.model.casefold(), each.model)
        self._known.pop("", None)
        self._found: dict[str, str] = {}
        self._stands: dict[str, str] = {}
        for each in booked:
            sent = self._known.get(each.upstream_model.casefold())
            if sent is not None and self.standing(each.model) != self.standing(sent):
                self._stands[self.standing(each.model)] = self.standing(sent)

    def ours(self, text: str) -> str:
        """Return the ledger's name for a model, or the invoice's own where the ledger has none like it."""
        if text not in self._found:
            like = [name for name in self._known if is_named(text, name)]
            self._found[text] = self._known[max(like, key=len)] if like else text
        return self._found[text]

    def standing(self, model: str) -> str:
        """Return which model of the ledger stands for all that are sent under one name: an invoice has their sum."""
        while model in self._stands:
            model = self._stands[model]
        return model


def is_named(text: str, model: str) -> bool:
    """Tell whether a line item is about this model: `name, input` and `name image` are, `name-2` is about another."""
    return re.match(rf"{re.escape(model)}(?![\w.-])", text, re.IGNORECASE) is not None


def is_known(model: str, booked: Iterable[Booked], rows: Iterable[Row]) -> bool:
    """Tell whether the ledger or the invoice has anything of a model."""
    names = {row.model for row in rows} | {name for each in booked for name in names_of(each)}
    return any(is_named(name, model) for name in names)


def names_of(booked: Booked) -> tuple[str, ...]:
    """Return every name of what is booked, or of a part of it; some are empty."""
    return booked.model, booked.upstream_model, booked.text_model
