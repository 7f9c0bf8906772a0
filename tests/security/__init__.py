"""Tests of who may do what, and of what nobody may learn."""
