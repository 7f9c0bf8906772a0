"""What is remembered goes in the order in which it was last asked for."""

import random
from collections import OrderedDict

from gateway.domain.weighted_cache import WeightedCache


def test_the_one_unused_longest_goes_however_often_the_others_were_found() -> None:
    """Against a model that moves each time: any order of finding, keeping anew and letting go of what is heavy."""
    draw, most = random.Random(4), 12
    memory, model = WeightedCache(most), OrderedDict[str, tuple[str, int]]()
    for step in range(20_000):
        key = draw.choice("abcdefgh")
        if draw.random() < 0.7:
            known = model.get(key)
            if known is not None:
                model.move_to_end(key)
            assert memory.find(key) == (None if known is None else known[0])
        else:
            model.pop(key, None)
            model[key] = value = (f"{key}{step}", draw.choice((1, 2, 3, 5, most + 1)))
            memory.keep(key, *value)
            while sum(weight for _, weight in model.values()) > most:
                model.popitem(last=False)
        assert memory._weight == sum(weight for _, weight in model.values())
