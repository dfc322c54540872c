"""The entropyd server: a coding role without TensorFlow, and a modeling role with worker processes."""
