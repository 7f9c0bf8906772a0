"""The keys of conversations and of paths that go through."""

from __future__ import annotations

from gateway.config.keys import Keys

TEXT_MODEL = Keys(("context", "max_tokens_per_image", "price"))
_RATES = ("text_in", "text_in_cached", "text_in_written", "text_out")
TEXT_PRICE = Keys(("from", "source", *_RATES, "long_context"))
LONG_CONTEXT = Keys(("above", *_RATES))
RESPONSES = Keys(("provider", "models", "max_images", "max_output_tokens", "text_only"))
PASSTHROUGH = Keys(("provider", "paths", "methods", "price_per_request"))

TALK_MAPS = {
    "text_models.NAME": TEXT_MODEL,
    "text_models.NAME.price[]": TEXT_PRICE,
    "text_models.NAME.price[].long_context": LONG_CONTEXT,
    "job_types.NAME.responses": RESPONSES,
    "passthrough": PASSTHROUGH,
}
"""Every map of it by the name under which the reference documents it."""
