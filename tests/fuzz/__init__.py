"""Tests that read what nobody would send."""
