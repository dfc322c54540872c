"""What runs in a worker process; the only place that imports TensorFlow."""
