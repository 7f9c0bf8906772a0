"""Metrics and logs; the only importer of prometheus_client."""
