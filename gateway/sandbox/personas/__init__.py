"""One package a simulated provider: its wire shapes, errors, limits and prices."""
