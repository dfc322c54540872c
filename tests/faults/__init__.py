"""Faults of an S3 store under replicas and many models."""
