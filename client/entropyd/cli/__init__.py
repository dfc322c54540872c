"""The `entropyd` command."""
