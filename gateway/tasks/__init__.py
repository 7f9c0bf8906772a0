"""Requests that are answered later: made, queued, worked on in some process, taken over, cancelled, and told."""
