"""Benchmarks; each states what it compares and prints ratios measured in one run."""
