"""Fuzzing of what strangers reach: the kernels, the wire parser and the archive parser."""
