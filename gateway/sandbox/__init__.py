"""Simulated providers, with a bill and scripted faults: for the demo, for tests, for anybody."""
