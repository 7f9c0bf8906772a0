"""OpenAI's Images API as of November 2026."""
