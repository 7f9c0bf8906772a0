"""EvoLink's image tasks as of November 2026."""
