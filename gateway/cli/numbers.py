"""Numbers as options take them."""

from __future__ import annotations

import math
from typing import Any

import click

from gateway.domain.period import parse_span


class Whole(click.IntRange):
    """A whole number from one to another."""

    name = "whole number"


class Seconds(click.FloatRange):
    """Seconds from one number to another, also written as `90s`, `5m` or `2h`; `nan`, which is in no order, is none."""

    name = "seconds"

    def __init__(self, least: float, most: float) -> None:
        super().__init__(least, most)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number; BadParameter for anything else."""
        try:
            seconds = float(value)
        except ValueError:
            try:
                seconds = parse_span(value).total_seconds()
            except ValueError:
                seconds = math.nan
        if math.isnan(seconds):
            self.fail(f"{value!r} is not a number of seconds such as 30, nor a time such as 30s, 5m or 2h.", param, ctx)
        return super().convert(seconds, param, ctx)
