"""Tests of the calls to providers, over real sockets."""
