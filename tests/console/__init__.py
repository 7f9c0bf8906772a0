"""The console: its figures, its session, and its pages in a real browser."""
