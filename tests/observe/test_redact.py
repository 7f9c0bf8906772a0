"""Redaction of words that become known while the gateway runs."""

from __future__ import annotations

from gateway.observe.redact import MASK, Redactor

OLD, NEW = "first-secret-of-an-account", "second-secret-of-an-account"


def test_a_secret_learnt_later_is_masked_from_then_on() -> None:
    """A new policy's secrets are masked beside the old ones, also in texts that were seen before."""
    redactor = Redactor([OLD])
    assert redactor.text(NEW) == NEW

    redactor.learn([NEW, "tiny"])

    assert redactor.text(NEW) == MASK
    assert redactor.value({"said": f"{OLD} and {NEW}, tiny"}) == {"said": f"{MASK} and {MASK}, tiny"}
