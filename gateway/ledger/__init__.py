"""Holds, spend and keys in Redis; the only importer of redis."""
