"""Programs that show entropyd at work."""
