"""Embeddings as they lie on disk, float16, on their way to the float32 that is reckoned with."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BLOCK = 1 << 18
"""Values at once: their float32, 1 MB, stays near the processor over all passes."""

_PLACES = 23 - 10  # the fraction of a float32 has 23 bits, that of a float16 ten
_KEPT = np.array(0x8FFFE000, np.uint32).view(np.int32)[
    ()
]  # sign, and where exponent and fraction of a float16 went
_RAISE = np.float32(2.0 ** (127 - 15))  # what the exponents' zeros differ by
_INFINITE = 0x7C00  # this and above is no finite number


def widen(half: NDArray[np.float16]) -> NDArray[np.float32]:
    """The same numbers as float32, bit for bit as ``half.astype(np.float32)``, which is four times slower.

    Exponent and fraction are moved to where a float32 has them. That makes every number 2^112 times too small, subnormal
    ones and zeros too, so one product makes all of them right; blocks with an infinity or a NaN are left to numpy.

    Args:
        half: Any shape.
    """
    wide = np.empty(half.shape, np.float32)
    given, numbers = np.ascontiguousarray(half).reshape(-1), wide.reshape(-1)
    for start in range(0, len(given), BLOCK):
        few, out = given[start : start + BLOCK], numbers[start : start + BLOCK]
        signed = few.view(np.int16)
        if signed.max() >= _INFINITE or few.view(np.uint16).max() >= 0x8000 + _INFINITE:
            out[...] = few
            continue
        bits = out.view(np.int32)
        bits[...] = signed
        np.left_shift(bits, _PLACES, out=bits)
        np.bitwise_and(bits, _KEPT, out=bits)
        np.multiply(out, _RAISE, out=out)
    return wide


def as_slice(rows: NDArray[np.intp]) -> slice | NDArray[np.intp]:
    """Rows as a slice if each is one more than the last: what it takes is not copied. Others come back as they are."""
    if not len(rows) or rows[-1] - rows[0] != len(rows) - 1 or (np.diff(rows) != 1).any():
        return rows
    return slice(int(rows[0]), int(rows[-1]) + 1)
