"""Metrics shared by every method."""
