"""Integer rows from densities, as TFC's op `pmf_to_quantized_cdf` makes them.

Source: tensorflow_compression/cc/kernels/pmf_to_cdf_kernels.cc, reproduced to the bit. The op keeps its queue
sorted by a linear search, which takes a second for a row of 2^15 intervals, and lowers a density of 10^5 in
some 10^8 steps of 1. Here the queue is a heap, and the last element that can be lowered takes all steps at
once. Which of several equal elements comes first depends on libstdc++'s `std::sort` (bits/stl_algo.h,
bits/stl_heap.h); `_sort` makes the same comparisons in the same order.
"""

# ruff: noqa: PLR0917 -- a kernel's state is its arguments and locals; Numba keeps no objects.

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from entropyd_server.kernels.jit import inlined, kernel, kernel_input

if TYPE_CHECKING:
    from entropyd_server.kernels.arrays import Float32s, Float64s, Int32s, Int64s

# std::sort leaves runs of this length to an insertion sort.
_SHORT = 16


def quantized_cdf(pmf: Float32s, precision: int) -> Int32s:
    """Scales a density to integers of at least 1 that sum to 2^precision, and adds them up.

    Args:
      pmf: float32 [intervals], finite and at least 0; at least 2 and at most 2^precision intervals, and
        below 2^31 / 2^precision in sum.
      precision: 1 to 16.

    Reorder:
      int32 [intervals + 1], from 0 to 2^precision.
    """
    counts = np.maximum(np.rint(pmf * np.float32(1 << precision)), 1).astype(np.int64)
    excess = int(counts.sum()) - (1 << precision)
    if excess:
        _adjust(counts, kernel_input(pmf.astype(np.float64)), excess, _logarithms())
    cdf = np.zeros(len(counts) + 1, np.int32)
    np.cumsum(counts, out=cdf[1:])
    return cdf


@cache
def _logarithms() -> Float64s:
    """Tabulates base-2 logarithms by the C library, as the op does; compiled loops may call another one."""
    table = np.array([-math.inf, *(math.log2(count) for count in range(1, 2**17))])
    table.flags.writeable = False
    return table


@inlined
def _logarithm(count: int, logarithms: Float64s) -> float:
    return logarithms[count] if count < len(logarithms) else math.log2(count)


@inlined
def _cost(count: int, mass: float, step: int, logarithms: Float64s) -> float:
    """Computes the bits that the next step costs; below 0 where it saves some."""
    if step < 0:
        if count <= 1:
            return math.inf
        return mass * (_logarithm(count, logarithms) - _logarithm(count - 1, logarithms))
    return -(mass * (_logarithm(count + 1, logarithms) - _logarithm(count, logarithms)))


@kernel
def _adjust(counts: Int64s, masses: Float64s, excess: int, logarithms: Float64s) -> None:
    """Takes `excess` from the counts, or adds what is missing, 1 at a time where it costs least.

    Args:
      counts: int64 [intervals], at least 1, changed.
      masses: float64 [intervals], the density.
      excess: By how much the counts sum to too much.
      logarithms: float64 [...], of the numbers from 0 on.
    """
    step = -1 if excess > 0 else 1
    length = len(counts)
    costs = np.empty(length, np.float64)
    queue = np.empty(length, np.int64)
    for i in range(length):
        costs[i] = _cost(counts[i], masses[i], step, logarithms)
        queue[i] = i
    _sort(queue, costs)
    # An element comes before those of equal cost that were put in later.
    order = np.empty(length, np.int64)
    for i in range(length):
        order[queue[i]] = i
    last_step = length + abs(excess)
    for time in range(length, last_step):
        first = queue[0]
        if costs[queue[1]] == math.inf and (length < 3 or costs[queue[2]] == math.inf):
            counts[first] -= last_step - time
            return
        counts[first] += step
        cost = costs[first] = _cost(counts[first], masses[first], step, logarithms)
        order[first] = time
        hole = 0
        while True:
            child = 2 * hole + 1
            if child >= length:
                break
            if child + 1 < length:
                one, other = queue[child], queue[child + 1]
                if costs[other] < costs[one] or (costs[other] == costs[one] and order[other] < order[one]):
                    child += 1
            if costs[queue[child]] > cost:
                break
            queue[hole] = queue[child]
            hole = child
        queue[hole] = first


@kernel
def _sort(queue: Int64s, costs: Float64s) -> None:
    """Sorts elements by their costs as `std::sort` does.

    Args:
      queue: int64 [length], sorted.
      costs: float64 [length], of each element.
    """
    length = len(queue)
    depth = 0
    while length >> (depth + 1):
        depth += 1
    # Parts that remain to be sorted: first, last, and how much deeper they may be cut.
    pending = np.empty((2 * depth + 2, 3), np.int64)
    pending[0] = 0, length, 2 * depth
    count = 1
    while count:
        count -= 1
        first, last, left = pending[count]
        while last - first > _SHORT:
            if left == 0:
                _heap_sort(queue, costs, first, last)
                break
            left -= 1
            _median_to_first(queue, costs, first, first + 1, first + (last - first) // 2, last - 1)
            cut = _partition(queue, costs, first + 1, last, costs[queue[first]])
            # The order of the two halves does not matter to either.
            pending[count] = cut, last, left
            count += 1
            last = cut
    for i in range(1, length):
        element = queue[i]
        hole = i
        while hole > 0 and costs[element] < costs[queue[hole - 1]]:
            queue[hole] = queue[hole - 1]
            hole -= 1
        queue[hole] = element


@inlined
def _swap(queue: Int64s, one: int, other: int) -> None:
    queue[one], queue[other] = queue[other], queue[one]


@kernel
def _median_to_first(queue: Int64s, costs: Float64s, first: int, a: int, b: int, c: int) -> None:
    cost_a, cost_b, cost_c = costs[queue[a]], costs[queue[b]], costs[queue[c]]
    if cost_a < cost_b:
        if cost_b < cost_c:
            _swap(queue, first, b)
        elif cost_a < cost_c:
            _swap(queue, first, c)
        else:
            _swap(queue, first, a)
    elif cost_a < cost_c:
        _swap(queue, first, a)
    elif cost_b < cost_c:
        _swap(queue, first, c)
    else:
        _swap(queue, first, b)


@kernel
def _partition(queue: Int64s, costs: Float64s, first: int, last: int, pivot: float) -> int:
    while True:
        while costs[queue[first]] < pivot:
            first += 1
        last -= 1
        while pivot < costs[queue[last]]:
            last -= 1
        if first >= last:
            return first
        _swap(queue, first, last)
        first += 1


@kernel
def _heap_sort(queue: Int64s, costs: Float64s, first: int, last: int) -> None:
    length = last - first
    for parent in range((length - 2) // 2, -1, -1):
        _sift(queue, costs, first, parent, length, queue[first + parent])
    for end in range(length - 1, 0, -1):
        element = queue[first + end]
        queue[first + end] = queue[first]
        _sift(queue, costs, first, 0, end, element)


@kernel
def _sift(queue: Int64s, costs: Float64s, first: int, hole: int, length: int, element: int) -> None:
    """`std::__adjust_heap`: moves a hole down along larger children, then the element up from there."""
    top, child = hole, hole
    while child < (length - 1) // 2:
        child = 2 * (child + 1)
        if costs[queue[first + child]] < costs[queue[first + child - 1]]:
            child -= 1
        queue[first + hole] = queue[first + child]
        hole = child
    if length % 2 == 0 and child == (length - 2) // 2:
        child = 2 * (child + 1)
        queue[first + hole] = queue[first + child - 1]
        hole = child - 1
    parent = (hole - 1) // 2
    while hole > top and costs[queue[first + parent]] < costs[element]:
        queue[first + hole] = queue[first + parent]
        hole = parent
        parent = (hole - 1) // 2
    queue[first + hole] = element
