"""The entropyd server: a coding plane without TensorFlow and a modeling plane behind worker processes."""
