"""Values that other implementations can check themselves against."""
