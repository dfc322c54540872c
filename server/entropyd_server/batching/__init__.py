"""Queues, and batches of many callers' units."""
