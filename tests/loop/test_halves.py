"""float16 to float32: the same bits as numpy's own conversion, whatever the number."""

from __future__ import annotations

import numpy as np
import pytest

from loop import halves
from loop.halves import as_slice, widen

EVERY = np.arange(2**16, dtype=np.uint16).view(
    np.float16
)  # zeros of both signs, subnormal, infinite, no number
FINITE = EVERY[np.isfinite(EVERY)]


@pytest.mark.parametrize("block", [1 << 18, 1000, 1])
def test_every_float16_becomes_the_float32_that_numpy_makes_of_it(
    monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    """Blocks of one value take both ways; one block of all values takes numpy's; finite values alone never do."""
    monkeypatch.setattr(halves, "BLOCK", block)
    for given in (EVERY, FINITE):
        wide = widen(given)
        assert wide.dtype == np.float32
        np.testing.assert_array_equal(wide.view(np.uint32), given.astype(np.float32).view(np.uint32))


@pytest.mark.parametrize(
    "given",
    [
        FINITE[:60].reshape(5, 12),
        FINITE[:60].reshape(5, 12)[::2, ::-3],
        FINITE[:60].reshape(5, 12).T,
        FINITE[:0].reshape(0, 7),
        FINITE[7],
    ],
)
def test_any_shape_and_any_order_in_memory_comes_back_as_it_was(given: np.ndarray) -> None:
    wide = widen(np.asarray(given))
    assert wide.flags.c_contiguous
    np.testing.assert_array_equal(wide, given.astype(np.float32), strict=True)


def test_rows_that_follow_each_other_are_a_slice_and_others_stay() -> None:
    assert as_slice(np.arange(3, 9)) == slice(3, 9)
    assert as_slice(np.array([4])) == slice(4, 5)
    for rows in ([], [1, 3], [2, 1], [1, 1], [0, 2, 1, 3], [1, 3, 2, 2, 5]):
        some = np.array(rows, np.intp)
        assert as_slice(some) is some
