"""Google's Gemini API, its image models, as of November 2026."""
