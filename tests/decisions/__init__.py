"""Decisions as golden files: a policy, what is asked, and what comes of it."""
