"""Conversations in which a tool makes images, and paths that go through to a provider."""
