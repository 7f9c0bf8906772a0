"""The parent of several workers: prints a scrape, after forgetting the workers whose ids are given."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from gateway.observe.scrape import Snapshot, forget_worker, new_registry, render_metrics
from gateway.observe.series import WORKERS_VARIABLE


def main() -> None:
    """Forget the dead and print what is left."""
    for pid in sys.argv[1:]:
        forget_worker(int(pid), Path(os.environ[WORKERS_VARIABLE]))
    text, _ = render_metrics(new_registry(), Snapshot(policy_digest="0123456789abcdef"))
    sys.stdout.buffer.write(text)


main()
