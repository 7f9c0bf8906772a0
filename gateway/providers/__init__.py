"""Calls to providers; the only importer of httpx and aiohttp, and the only place that knows vendors."""
