"""The coding plane: models as integers, arrays to bit strings and back.

Owns coding tables, coding plans and codecs. It must not know requests, event loops, metrics or TensorFlow.
Invariant: no table is computed here; the same tables and values give the same bytes on every machine.
"""
