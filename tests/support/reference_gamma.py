"""A slow model of the run-length Elias gamma code, a bit at a time; see `kernels.run_length_gamma`."""

from __future__ import annotations


class CorruptError(Exception):
    """The bytes are no code of so many integers."""


def _gamma(number: int) -> str:
    digits = f"{number:b}"
    return "0" * (len(digits) - 1) + "1" + digits[:0:-1]


def encode(integers: list[int]) -> bytes:
    bits, zeros = "", 0
    for integer in integers:
        if integer == 0:
            zeros += 1
        else:
            bits += _gamma(zeros + 1) + str(int(integer > 0)) + _gamma(abs(integer))
            zeros = 0
    if zeros:
        bits += _gamma(zeros + 1)
    bits += "0" * (-len(bits) % 8)
    return bytes(int(bits[start : start + 8][::-1], 2) for start in range(0, len(bits), 8))


def decode(string: bytes, count: int) -> list[int]:
    """Restores `count` integers; what follows them is ignored."""
    bits = iter("".join(f"{byte:08b}"[::-1] for byte in string))

    def take() -> int:
        for bit in bits:
            return int(bit)
        raise CorruptError("the bits end")

    def number() -> int:
        zeros = 0
        while not take():
            zeros += 1
            if zeros > 30:
                raise CorruptError("a number of more than 31 bits")
        return (1 << zeros) + sum(take() << place for place in range(zeros))

    integers: list[int] = []
    while len(integers) < count:
        zeros = number() - 1
        if len(integers) + zeros > count:
            raise CorruptError("a run beyond the end")
        integers += [0] * zeros
        if len(integers) < count:
            sign = 1 if take() else -1
            integers.append(sign * number())
    return integers
