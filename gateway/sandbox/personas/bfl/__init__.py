"""Black Forest Labs' API as of November 2026."""
