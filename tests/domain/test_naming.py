"""Naming: in whose words a quality is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.domain.naming import speaker_of
from gateway.domain.route import Legacy, Model
from tests.builders import GPT_IMAGE_2, GPT_IMAGE_15, LEGACY_SIZES, capabilities

WORDLESS = Model("wordless", capabilities(LEGACY_SIZES, ()), ())
FADING = replace(GPT_IMAGE_15, legacy=Legacy(drop=("fidelity",)))
OLD = Model("old", capabilities(LEGACY_SIZES, ("standard", "low")), (), legacy=Legacy({"standard": "medium"}))


@pytest.mark.parametrize(
    ("word", "speaker"),
    [("high", GPT_IMAGE_2), ("standard", OLD), ("low", GPT_IMAGE_2), ("never", WORDLESS), ("auto", WORDLESS)],
)
def test_a_word_is_of_a_retired_model_only_if_it_is_still_understood_as_such(word: str, speaker: Model) -> None:
    """A retired model of which nothing but fields is remembered goes before no other."""
    models = (FADING, GPT_IMAGE_2, OLD) if word == "standard" else (GPT_IMAGE_2, FADING, OLD)
    assert speaker_of(word, WORDLESS, WORDLESS, models) is speaker
