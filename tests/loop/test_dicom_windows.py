"""DICOM greys are shown on the scale that the file asks for, not on that of the pixels that happen to be there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from dicom_files import write_dicom
from numpy.typing import NDArray

from loop.images import open_image

DEEP = (np.arange(64, dtype=np.uint16).reshape(8, 8) * 2) + 1000  # (8, 8), 1000 to 1126
TWELVE = {"BitsStored": 12, "HighBit": 11}


def shown(path: Path, pixels: NDArray[Any], **tags: Any) -> NDArray[np.float64]:
    return np.asarray(open_image(write_dicom(path / "a.dcm", pixels, **tags)), dtype=np.float64)


def test_a_window_wider_than_the_picture_leaves_it_flat_as_asked(tmp_path: Path) -> None:
    grey = shown(tmp_path, DEEP, WindowCenter=2048, WindowWidth=4096, **TWELVE)
    # DICOM PS3.3 C.11.2.1.2.1 on [0, 255]
    np.testing.assert_allclose(grey, ((DEEP - 2047.5) / 4095 + 0.5) * 255, atol=0.51)


def test_two_pictures_under_one_window_keep_their_difference(tmp_path: Path) -> None:
    window = {"WindowCenter": 1100, "WindowWidth": 400, **TWELVE}
    dark, bright = shown(tmp_path, DEEP, **window), shown(tmp_path, DEEP + 100, **window)
    np.testing.assert_allclose(bright - dark, 100 / 399 * 255, atol=1.01)


def test_a_negative_slope_does_not_turn_the_picture_over(tmp_path: Path) -> None:
    """Stored 1000 is rescaled to 3095, the brightest under this window."""
    tags = {"RescaleSlope": -1, "RescaleIntercept": 4095, **TWELVE}
    grey = shown(tmp_path, DEEP, WindowCenter=3032, WindowWidth=200, **tags)
    rescaled = 4095.0 - DEEP
    np.testing.assert_allclose(grey, ((rescaled - 3031.5) / 199 + 0.5) * 255, atol=0.51)
    assert grey[0, 0] > grey[7, 7]


def test_the_first_of_several_windows_counts(tmp_path: Path) -> None:
    one = shown(tmp_path, DEEP, WindowCenter=1050, WindowWidth=200, **TWELVE)
    two = shown(tmp_path, DEEP, WindowCenter=[1050, 2048], WindowWidth=[200, 4096], **TWELVE)
    np.testing.assert_array_equal(one, two)


def test_a_sigmoid_window_is_a_sigmoid(tmp_path: Path) -> None:
    grey = shown(tmp_path, DEEP, WindowCenter=1060, WindowWidth=100, VOILUTFunction="SIGMOID", **TWELVE)
    # DICOM PS3.3 C.11.2.1.3.1
    np.testing.assert_allclose(grey, 255 / (1 + np.exp(-4 * (DEEP - 1060.0) / 100)), atol=0.51)


@pytest.mark.parametrize("width", [0, -1, None])
def test_a_window_of_no_width_is_none(tmp_path: Path, width: int | None) -> None:
    plain = shown(tmp_path, DEEP, **TWELVE)
    np.testing.assert_array_equal(
        shown(tmp_path, DEEP, WindowCenter=1050, WindowWidth=width, **TWELVE), plain
    )
    assert (plain.min(), plain.max()) == (0, 255)


@pytest.mark.parametrize("rescaled", [False, True])
def test_a_table_is_looked_up_with_and_without_a_rescale(tmp_path: Path, rescaled: bool) -> None:
    """Where a table and a window are given, the table counts; a square root here."""
    table = np.rint(4095 * np.sqrt(np.arange(4096) / 4095)).astype(np.uint16)
    item = pydicom.Dataset()
    item.add_new("LUTDescriptor", "US", [4096, 0, 12])
    item.add_new("LUTData", "US", table.tolist())
    tags: dict[str, Any] = {"RescaleSlope": 1, "RescaleIntercept": 0} if rescaled else {}
    grey = shown(tmp_path, DEEP, VOILUTSequence=[item], WindowCenter=2048, WindowWidth=4096, **TWELVE, **tags)
    np.testing.assert_allclose(grey, table[DEEP] / 4095 * 255, atol=0.51)


def test_padding_does_not_flatten_the_picture(tmp_path: Path) -> None:
    padded = DEEP.copy()
    padded[:, :2] = 0
    grey = shown(tmp_path, padded, PixelPaddingValue=0, **TWELVE)
    assert (grey[:, :2] == 0).all()
    inside = padded[:, 2:].astype(float)
    np.testing.assert_allclose(grey[:, 2:], (inside - 1004) / (1126 - 1004) * 255, atol=0.51)
    edge = shown(tmp_path, np.zeros((8, 8), dtype=np.uint16), PixelPaddingValue=0, **TWELVE)
    assert (edge == 0).all()  # nothing but padding


def test_padding_may_be_a_range(tmp_path: Path) -> None:
    padded = DEEP.copy()
    padded[:, 0], padded[:, 1] = 0, 7
    grey = shown(tmp_path, padded, PixelPaddingValue=0, PixelPaddingRangeLimit=10, **TWELVE)
    assert (grey[:, :2] == 0).all()
    assert grey[0, 2] == 0
    assert grey[0, 3] > 0
