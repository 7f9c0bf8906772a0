"""Egress: URLs that a client or a provider chose, called without ever being led inside."""
