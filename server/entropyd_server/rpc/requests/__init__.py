"""Parses requests into frozen calls that fit their model and the limits."""
