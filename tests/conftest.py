"""What holds for all tests: a busy machine is no fault of what is tested."""

from __future__ import annotations

from hypothesis import settings

from gateway.ledger import store

settings.register_profile("untimed", settings(), deadline=None)
settings.load_profile("untimed")
AS_SHIPPED, store.SILENCE = store.SILENCE, 0.9
