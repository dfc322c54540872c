"""Models: found or built, cached, counted against quotas."""
