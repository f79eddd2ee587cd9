"""Images as hospitals have them are opened as pictures, or refused with the path and the reason."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from dicom_files import RAMP, write_dicom
from numpy.typing import NDArray
from PIL import Image

from loop.images import BadImage, is_dicom, open_image, read_patient_id, render_png


def opened(path: Path) -> NDArray[np.uint8]:
    return np.asarray(open_image(path))


def refusal(path: Path) -> str:
    with pytest.raises(BadImage) as caught:
        open_image(path)
    assert str(path) in str(caught.value)
    return str(caught.value).removeprefix(f"{path}: ")


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_that_claims(width: int, height: int) -> bytes:
    """A PNG whose header claims a size that its few bytes of data do not hold."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", header)
        + png_chunk(b"IDAT", zlib.compress(b"\0" * 100))
        + png_chunk(b"IEND", b"")
    )


def test_an_8_bit_png_keeps_its_pixels(tmp_path: Path) -> None:
    Image.fromarray(RAMP).save(tmp_path / "a.png")
    assert open_image(tmp_path / "a.png").mode == "L"
    np.testing.assert_array_equal(opened(tmp_path / "a.png"), RAMP)


def test_a_16_bit_png_is_stretched_over_its_range(tmp_path: Path) -> None:
    deep = 1000 + RAMP.astype(np.uint16) * 16
    Image.fromarray(deep).save(tmp_path / "a.png")
    np.testing.assert_array_equal(opened(tmp_path / "a.png"), np.rint(RAMP * (255 / 252)).astype(np.uint8))


def test_an_even_16_bit_picture_is_black_and_no_division_by_zero(tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 8), 777, dtype=np.uint16)).save(tmp_path / "a.png")
    assert (opened(tmp_path / "a.png") == 0).all()


def test_a_jpeg_is_opened_in_grey_or_colour(tmp_path: Path) -> None:
    Image.fromarray(RAMP).save(tmp_path / "grey.jpg", quality=95)
    Image.new("RGB", (8, 8), (200, 30, 30)).save(tmp_path / "red.jpeg", quality=95)
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "cmyk.jpg")
    assert open_image(tmp_path / "grey.jpg").mode == "L"
    np.testing.assert_allclose(opened(tmp_path / "grey.jpg").astype(float), RAMP, atol=8)
    red = opened(tmp_path / "red.jpeg")
    assert red.shape == (8, 8, 3)
    np.testing.assert_allclose(red[4, 4], (200, 30, 30), atol=6)
    assert open_image(tmp_path / "cmyk.jpg").mode == "RGB"


def test_a_palette_is_looked_up(tmp_path: Path) -> None:
    picture = Image.new("P", (8, 8), 1)
    picture.putpalette([0, 0, 0, 10, 20, 30])
    picture.save(tmp_path / "a.png")
    assert tuple(opened(tmp_path / "a.png")[3, 3]) == (10, 20, 30)


@pytest.mark.parametrize(
    ("mode", "colour", "flat"),
    [
        ("RGBA", (200, 100, 50, 0), (0, 0, 0)),
        ("RGBA", (200, 100, 50, 255), (200, 100, 50)),
        ("LA", (200, 0), 0),
        ("LA", (200, 255), 200),
    ],
)
def test_transparency_is_flattened_on_black(tmp_path: Path, mode: str, colour: Any, flat: Any) -> None:
    Image.new(mode, (8, 8), colour).save(tmp_path / "a.png")
    picture = open_image(tmp_path / "a.png")
    assert picture.mode == ("RGB" if mode == "RGBA" else "L")
    assert picture.getpixel((2, 2)) == flat


def test_a_transparent_grey_is_flattened_too(tmp_path: Path) -> None:
    Image.fromarray(RAMP).save(tmp_path / "a.png", transparency=252)
    assert opened(tmp_path / "a.png")[7, 7].max() == 0
    assert opened(tmp_path / "a.png")[7, 6].max() == 248


def test_a_black_and_white_png_has_two_greys(tmp_path: Path) -> None:
    Image.fromarray(RAMP > 100).save(tmp_path / "a.png")
    np.testing.assert_array_equal(opened(tmp_path / "a.png"), np.where(RAMP > 100, 255, 0))


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees
    Image.new("L", (16, 8)).save(tmp_path / "a.jpg", exif=exif)
    assert open_image(tmp_path / "a.jpg").size == (8, 16)


def test_monochrome2_is_shown_as_it_is_and_monochrome1_inverted(tmp_path: Path) -> None:
    plain = opened(write_dicom(tmp_path / "2.dcm", RAMP))
    turned = opened(write_dicom(tmp_path / "1.dcm", RAMP, PhotometricInterpretation="MONOCHROME1"))
    np.testing.assert_array_equal(plain, np.rint(RAMP * (255 / 252)).astype(np.uint8))
    np.testing.assert_array_equal(turned, 255 - plain)


def test_16_bit_dicom_keeps_its_order_of_greys(tmp_path: Path) -> None:
    deep = RAMP.astype(np.uint16) * 16 + 3
    shown = opened(write_dicom(tmp_path / "a.dcm", deep, BitsStored=12, HighBit=11))
    assert shown.dtype == np.uint8
    assert shown.min() == 0
    assert shown.max() == 255
    assert (np.diff(shown.ravel().astype(int)) > 0).all()


def test_the_window_clips_after_the_rescale(tmp_path: Path) -> None:
    """Stored 0..252, rescaled to -1000..-496; the window around -750 of width 200 keeps -850..-650."""
    shown = opened(
        write_dicom(
            tmp_path / "a.dcm",
            RAMP.astype(np.uint16),
            RescaleSlope=2,
            RescaleIntercept=-1000,
            WindowCenter=-750,
            WindowWidth=200,
        )
    )
    rescaled = RAMP.astype(float) * 2 - 1000
    assert (shown[rescaled <= -850] == 0).all()
    assert (shown[rescaled >= -650] == 255).all()
    inside = (rescaled > -850) & (rescaled < -650)
    # DICOM PS3.3 C.11.2.1.2.1: ((x - (c - .5)) / (w - 1) + .5) times the range
    expected = ((rescaled[inside] + 750.5) / 199 + 0.5) * 255
    np.testing.assert_allclose(shown[inside], expected, atol=1)


def test_signed_dicom_pixels_are_signed(tmp_path: Path) -> None:
    signed = RAMP.astype(np.int16) - 126
    shown = opened(write_dicom(tmp_path / "a.dcm", signed, PixelRepresentation=1))
    assert shown[0, 0] == 0
    assert shown[7, 7] == 255


def test_colour_dicom_is_not_stretched(tmp_path: Path) -> None:
    colour = np.zeros((8, 8, 3), dtype=np.uint8)
    colour[...] = (10, 20, 30)
    path = write_dicom(tmp_path / "a.dcm", colour, PhotometricInterpretation="RGB", PlanarConfiguration=0)
    assert tuple(opened(path)[2, 2]) == (10, 20, 30)


def test_palette_dicom_is_looked_up(tmp_path: Path) -> None:
    tags: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for name, value in (("Red", 200), ("Green", 100), ("Blue", 50)):
        tags[f"{name}PaletteColorLookupTableDescriptor"] = [256, 0, 8]
        tags[f"{name}PaletteColorLookupTableData"] = bytes([0, value] * 128)
    shown = opened(write_dicom(tmp_path / "a.dcm", np.ones((8, 8), dtype=np.uint8), **tags))
    assert tuple(shown[2, 2]) == (200, 100, 50)


def test_several_frames_are_refused_with_the_remedy(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", np.stack([RAMP, RAMP]), NumberOfFrames=2)
    assert "2 frames" in refusal(path)
    assert "export" in refusal(path)


def test_a_dicom_file_without_an_image_is_refused(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", RAMP)
    dataset = pydicom.dcmread(path)
    del dataset.PixelData
    dataset.save_as(path)
    assert "without an image" in refusal(path)


@pytest.mark.parametrize("kept", [200, 400, -20, -1])
def test_a_truncated_dicom_file_is_refused(tmp_path: Path, kept: int) -> None:
    path = write_dicom(tmp_path / "a.dcm", RAMP)
    path.write_bytes(path.read_bytes()[:kept])
    assert refusal(path)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_truncated_file_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:-1500])
    assert "truncated" in refusal(path)


@pytest.mark.parametrize("content", [b"", b"Dear colleague,\n", b"\x89PNG\r\n\x1a\n", b"GIF89a" + b"\0" * 40])
@pytest.mark.parametrize("name", ["a.png", "a.jpeg", "a.dcm"])
def test_what_is_no_image_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert refusal(path) == "no PNG, JPEG or DICOM inside"


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path / "gone.png")
    assert "directory" in refusal(tmp_path)


@pytest.mark.parametrize("size", [(2**31 - 1, 2**31 - 1), (60_000, 60_000), (60_000, 1), (1, 60_000)])
def test_a_huge_bogus_header_is_refused_before_memory_is_taken(tmp_path: Path, size: tuple[int, int]) -> None:
    (tmp_path / "a.png").write_bytes(png_that_claims(*size))
    assert "pixels" in refusal(tmp_path / "a.png") or "bomb" in refusal(tmp_path / "a.png")


def test_a_huge_bogus_dicom_header_is_refused(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", RAMP, Rows=65535, Columns=65535)
    assert "65,535 x 65,535 pixels" in refusal(path)


@pytest.mark.filterwarnings("ignore:Invalid value for VR:UserWarning")  # pydicom, of the damaged tags
@pytest.mark.filterwarnings("ignore:.*:UserWarning:pydicom")
@pytest.mark.filterwarnings("ignore:.*:UserWarning:PIL")  # Pillow, of damaged EXIF data
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_damaged_bytes_end_in_a_picture_or_a_reason(tmp_path: Path) -> None:
    """300 damaged copies of three files; nothing but BadImage may come out."""
    rng = np.random.default_rng(7)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(RAMP).save(tmp_path / "a.png")
    Image.fromarray(RAMP).save(tmp_path / "a.jpg", exif=exif)
    write_dicom(tmp_path / "a.dcm", RAMP, WindowCenter=100, WindowWidth=50)
    refused = 0
    for name in ("a.png", "a.jpg", "a.dcm"):
        whole = (tmp_path / name).read_bytes()
        for _ in range(100):
            broken = np.frombuffer(whole, dtype=np.uint8).copy()
            at = rng.integers(132 if name == "a.dcm" else 8, len(broken), size=4)
            broken[at] = rng.integers(0, 256, size=4)
            path = tmp_path / f"broken-{name}"
            path.write_bytes(broken.tobytes())
            try:
                open_image(path)
            except BadImage as error:
                refused += str(path) in str(error)
    assert refused > 50


def test_the_patient_is_read_from_the_header_alone(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", RAMP)
    assert is_dicom(path)
    assert read_patient_id(path) == "0815-Muster"
    assert read_patient_id(write_dicom(tmp_path / "b.dcm", RAMP, PatientID="")) == ""
    with pytest.raises(BadImage, match="header cannot be read"):
        read_patient_id(tmp_path / "gone.dcm")


def test_a_rendition_shows_the_same_picture_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", RAMP, PhotometricInterpretation="MONOCHROME1")
    out = tmp_path / "out"
    out.mkdir()
    render_png(path, out / "a.png")
    np.testing.assert_array_equal(opened(out / "a.png"), opened(path))
    with pytest.raises(BadImage):
        render_png(tmp_path / "gone.dcm", out / "b.png")
    assert [found.name for found in out.iterdir()] == ["a.png"]
