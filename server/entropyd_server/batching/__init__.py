"""Joining the work of many callers into few kernel calls."""
