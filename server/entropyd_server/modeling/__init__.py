"""What needs TensorFlow: the worker processes, and how the server uses them.

TensorFlow is imported in `worker` only, which runs in those processes.
"""
