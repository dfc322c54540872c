"""The tests of entropyd."""
