"""The keys of the maps that are about batches."""

from __future__ import annotations

from gateway.config.keys import Keys

PROVIDER_BATCH = Keys(("window", "multiplier", "endpoints", "poll", "spare", "most_requests", "most_bytes"))
BATCH_ENDPOINTS = Keys(("generate", "edit"))
JOB_TYPE_BATCH = Keys(("after", "requests", "if_late", "min_wait"))
