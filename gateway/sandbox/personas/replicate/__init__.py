"""Replicate's predictions as of November 2026."""
