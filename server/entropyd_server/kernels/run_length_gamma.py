"""The run-length Elias gamma code: coding units to bit strings and back.

The stream is that of `RunLengthGammaEncode` and `RunLengthGammaDecode` of TensorFlow Compression 2.14.1
(cc/kernels/run_length_gamma_kernels.cc), bit for bit. For each run of zeros, which may be empty, it holds the
gamma code of the run's length plus 1 and then, unless the unit ends with the run, a bit that is 1 for a
positive integer and the gamma code of its magnitude. A unit that does not end with zeros ends without a run.
The gamma code of a number of n bits is n - 1 zeros, its highest bit, which is 1, and the others from the
lowest on. Bits fill each byte from its lowest to its highest; zeros fill the last byte.

Invariant: for every input the kernels end and leave one status per coding unit; a unit that fails changes no
byte and no value of another.

Bounds. An integer takes at most 1 + 1 + 61 bits, and a run of zeros at most two bits more than it has zeros,
so MAX_SYMBOL_BYTES per symbol hold a unit. Decoding reads at most 31 zeros and as many bits for each number,
and each number but the last of a unit stands for a symbol or a run of them.
"""

# ruff: noqa: PLR0917 -- a kernel's state is its arguments and locals; Numba keeps no objects.
from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from entropyd_server.kernels.elements import BLOCK_SYMBOLS, blank, is_finite, read_integers, write_elements
from entropyd_server.kernels.jit import at, inlined, int64, kernel
from entropyd_server.kernels.range_coder import Status

if TYPE_CHECKING:
    from entropyd_server.kernels.arrays import Int32s, Int64s, Uint8s, Uint32s

# Bits of the largest magnitude, 2^31 - 1.
MAX_GAMMA_BITS = 31
MAX_SYMBOL_BYTES = 8
# Room for the bytes of a word that is stored as a whole.
PAYLOAD_SLACK_BYTES = 8
_BYTE = at(0xFF)


def gamma_capacity(symbols: int) -> int:
    """Computes the payload bytes that hold a unit of so many symbols, whatever they are."""
    return MAX_SYMBOL_BYTES * symbols + PAYLOAD_SLACK_BYTES


@inlined
def _append(
    payload: Uint8s, end: int, pending: int, held: int, bits: int, count: int
) -> tuple[int, int, int]:
    """Appends `count` bits, at most 32, the lowest first, to `held` pending ones, fewer than 32.

    Returns:
      Where the next byte goes, the bits that are pending, and their number.
    """
    pending |= at(bits) << at(held)
    held += count
    if held >= 32:
        for byte in range(4):
            payload[at(end + byte)] = np.uint8((pending >> at(8 * byte)) & _BYTE)
        pending >>= at(32)
        held -= 32
        end += 4
    return end, pending, held


@inlined
def _bit_length(number: int) -> int:
    """Counts the bits of a number, 1 to 2^32 - 1, without branches, which could not be predicted."""
    bits = int64(1)
    for power in (4, 3, 2, 1, 0):
        shift = int64((number >> (1 << power)) > 0) << power
        number >>= shift
        bits += shift
    return bits


@inlined
def _append_gamma(payload: Uint8s, end: int, pending: int, held: int, number: int) -> tuple[int, int, int]:
    """Appends the gamma code of a number, 1 to 2^32 - 1."""
    zeros = _bit_length(number) - 1
    # The highest bit, which is 1, comes before the others.
    bits = ((number - (1 << zeros)) << 1) | 1
    if zeros < 16:
        return _append(payload, end, pending, held, bits << zeros, 2 * zeros + 1)
    end, pending, held = _append(payload, end, pending, held, 0, zeros)
    return _append(payload, end, pending, held, bits, zeros + 1)


@kernel
def encode_gamma_units(  # noqa: PLR0912 -- the coder's state does not leave this function
    elements: Uint8s,
    element: int,
    symbols: int,
    first_unit: int,
    payload: Uint8s,
    lengths: Uint32s,
    statuses: Uint8s,
    positions: Int64s,
) -> tuple[int, int]:
    """Encodes units [first_unit, units), one string after the other.

    Args:
      elements: uint8, the bytes of all elements [units, symbols], at any address; see `kernels.elements`.
      element: An Element.
      symbols: Of each unit.
      first_unit: Where to begin.
      payload: uint8 [capacity], written.
      lengths: uint32 [units], written: bytes of each string, 0 for a unit that failed.
      statuses: uint8 [units], written: a Status.
      positions: int64 [units], written: the element that failed, else -1.

    Returns:
      next_unit: The first unit not encoded: `units`, unless the payload was too short. One of
        `gamma_capacity(symbols)` bytes always holds one more unit.
      end: Where the last string ends.
    """
    integers = np.empty(BLOCK_SYMBOLS, np.int32)
    offsets = elements[:0]
    end = int64(0)
    for unit in range(first_unit, len(lengths)):
        begin = end
        if end + MAX_SYMBOL_BYTES * symbols + PAYLOAD_SLACK_BYTES > len(payload):
            return unit, end
        pending, held = at(0), int64(0)
        status, position, run = int64(Status.OK), int64(-1), int64(0)
        for block in range(0, symbols, BLOCK_SYMBOLS):
            count = min(BLOCK_SYMBOLS, symbols - block)
            first = unit * symbols + block
            if not read_integers(elements, element, first, offsets, 0, integers[:count]):
                for index in range(count):
                    if not read_integers(elements, element, first + index, offsets, 0, integers[:1]):
                        finite = is_finite(elements, element, first + index)
                        status = int64(Status.OUT_OF_RANGE if finite else Status.NOT_FINITE)
                        position = block + index
                        break
                break
            for index in range(count):
                integer = int64(integers[at(index)])
                if integer == 0:
                    run += 1
                    continue
                if abs(integer) == 1 << MAX_GAMMA_BITS:
                    status, position = int64(Status.OUT_OF_RANGE), block + index
                    break
                end, pending, held = _append_gamma(payload, end, pending, held, run + 1)
                end, pending, held = _append(payload, end, pending, held, int64(integer > 0), 1)
                end, pending, held = _append_gamma(payload, end, pending, held, abs(integer))
                run = int64(0)
            if status != Status.OK:
                break
        if status == Status.OK:
            if run:
                end, pending, held = _append_gamma(payload, end, pending, held, run + 1)
            while held > 0:
                payload[at(end)] = np.uint8(pending & _BYTE)
                pending >>= at(8)
                held -= 8
                end += 1
        else:
            end = begin
        lengths[unit] = end - begin
        statuses[unit] = status
        positions[unit] = position
    return len(lengths), end


@inlined
def _read_gamma(payload: Uint8s, bit: int, end: int) -> tuple[int, int, int]:
    """Reads a gamma code that begins at a bit; returns the bit behind it, the number, and a status."""
    zeros = int64(0)
    while True:
        if bit >= end:
            return bit, int64(0), int64(Status.TRUNCATED)
        one = (payload[at(bit >> 3)] >> (bit & 7)) & 1
        bit += 1
        if one:
            break
        zeros += 1
        if zeros == MAX_GAMMA_BITS:
            return bit, int64(0), int64(Status.GAMMA_TOO_LONG)
    if bit + zeros > end:
        return bit, int64(0), int64(Status.TRUNCATED)
    number = int64(1) << zeros
    for place in range(zeros):
        number |= int64((payload[at(bit >> 3)] >> (bit & 7)) & 1) << place
        bit += 1
    return bit, number, int64(Status.OK)


@inlined
def _put(integers: Int32s, symbol: int, integer: int, elements: Uint8s, element: int, first: int) -> int:
    """Keeps the integer of a symbol, and writes a block of them that is full; returns a status."""
    place = symbol & (BLOCK_SYMBOLS - 1)
    integers[at(place)] = integer
    if place != BLOCK_SYMBOLS - 1:
        return int64(Status.OK)
    return write_elements(integers, elements, element, first + symbol - place, elements[:0], 0)


@kernel
def decode_gamma_units(
    payload: Uint8s,
    lengths: Uint32s,
    symbols: int,
    elements: Uint8s,
    element: int,
    statuses: Uint8s,
    positions: Int64s,
) -> None:
    """Decodes one string per unit, laid one after the other in `payload`.

    As in TFC, whatever follows the last symbol of a string is ignored.

    Args:
      payload: uint8 [bytes], at least the sum of `lengths`.
      lengths: uint32 [units].
      symbols: Of each unit.
      elements: uint8, the bytes of elements [units, symbols], written; NaN or 0 throughout a unit that
        failed. See `kernels.elements`.
      element: An Element.
      statuses: uint8 [units], written: a Status.
      positions: int64 [units], written: element at which decoding failed, else -1.
    """
    integers = np.empty(BLOCK_SYMBOLS, np.int32)
    begin = int64(0)
    for unit in range(len(lengths)):
        first = unit * symbols
        begin_of_next = begin + int64(lengths[unit])
        bit, end = 8 * begin, 8 * begin_of_next
        symbol = int64(0)
        status = written = int64(Status.OK)
        while symbol < symbols:
            bit, number, status = _read_gamma(payload, bit, end)
            if status != Status.OK:
                break
            run_end = symbol + number - 1
            if run_end > symbols:
                status = int64(Status.RUN_TOO_LONG)
                break
            while symbol < run_end:
                written |= _put(integers, symbol, 0, elements, element, first)
                symbol += 1
            if symbol == symbols:
                break
            if bit >= end:
                status = int64(Status.TRUNCATED)
                break
            positive = (payload[at(bit >> 3)] >> (bit & 7)) & 1
            bit, number, status = _read_gamma(payload, bit + 1, end)
            if status != Status.OK:
                break
            integer = number if positive else -number
            written |= _put(integers, symbol, integer, elements, element, first)
            symbol += 1
        rest = symbol & (BLOCK_SYMBOLS - 1)
        written |= write_elements(integers[:rest], elements, element, first + symbol - rest, elements[:0], 0)
        positions[unit] = symbol if status != Status.OK else int64(-1)
        statuses[unit] = status if status != Status.OK else written
        if statuses[unit] != Status.OK:
            blank(elements, element, first, symbols)
        begin = begin_of_next
