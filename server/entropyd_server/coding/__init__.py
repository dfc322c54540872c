"""Arrays to bit strings and back, with integer tables that were built elsewhere.

Invariant: the same tables and values give the same bytes on every machine.
"""
