"""Image Gateway: an OpenAI-compatible, cost-aware routing proxy for image APIs."""

__version__ = "0.1.0"
