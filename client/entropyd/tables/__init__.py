"""Rows of integers for `TabulatedConfig` from probabilities, counts or float CDFs. Needs no server.

A row is the cumulative frequencies of neighbouring integers and, last, of the escape, which stands for all
others: from 0 strictly rising to 2^precision. The smallest integer of a row is its offset.
"""

from entropyd.tables.rows import Quantization, Row, from_cdf_float, from_counts, from_pmf

__all__ = ["Quantization", "Row", "from_cdf_float", "from_counts", "from_pmf"]
