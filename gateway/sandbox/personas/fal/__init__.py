"""fal's queue as of November 2026."""
