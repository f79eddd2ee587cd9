"""Compressed DICOM is opened through pydicom's plug-ins, as the same picture; where one lacks, the remedy is said."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_files import RAMP, write_dicom
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders import JPEGLSLosslessDecoder
from pydicom.uid import UID, JPEG2000Lossless, JPEGBaseline8Bit, JPEGLSLossless, RLELossless

from loop.images import BadImage, open_image

DEEP = np.arange(64 * 48, dtype=np.uint16).reshape(48, 64) % 4096  # (48, 64), 12 bit
TWELVE = {"BitsStored": 12, "HighBit": 11}
MPEG2 = UID("1.2.840.10008.1.2.4.100")


def encapsulated(path: Path, syntax: UID, frames: list[bytes], **tags: object) -> Path:
    """Replace the pixels of a DICOM file by compressed frames."""
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = syntax
    for name, value in tags.items():
        setattr(dataset, name, value)
    dataset.PixelData = encapsulate(frames)
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(path, enforce_file_format=True)
    return path


def jpeg(image: Image.Image) -> bytes:
    held = io.BytesIO()
    image.save(held, "JPEG", quality=95, subsampling=2)
    return held.getvalue()


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
@pytest.mark.parametrize(
    "tags", [{}, {"PhotometricInterpretation": "MONOCHROME1", "WindowCenter": 900, "WindowWidth": 700}]
)
def test_a_lossless_syntax_shows_the_same_picture(
    tmp_path: Path, syntax: UID, tags: dict[str, object]
) -> None:
    path = write_dicom(tmp_path / "a.dcm", DEEP, **TWELVE, **tags)
    plain = np.asarray(open_image(path))
    dataset = pydicom.dcmread(path)
    dataset.compress(syntax)
    dataset.save_as(tmp_path / "b.dcm")
    assert pydicom.dcmread(tmp_path / "b.dcm").file_meta.TransferSyntaxUID == syntax
    np.testing.assert_array_equal(np.asarray(open_image(tmp_path / "b.dcm")), plain)
    assert plain.max() == 255


def test_a_jpeg_inside_dicom_is_shown_in_grey_and_in_its_colours(tmp_path: Path) -> None:
    grey = encapsulated(
        write_dicom(tmp_path / "grey.dcm", RAMP), JPEGBaseline8Bit, [jpeg(Image.fromarray(RAMP))]
    )
    shown = np.asarray(open_image(grey)).astype(float)
    np.testing.assert_allclose(shown, RAMP * (255 / 252), atol=8)
    colour = np.zeros((16, 16, 3), dtype=np.uint8)
    colour[...] = (200, 30, 60)
    path = write_dicom(
        tmp_path / "colour.dcm", colour, PlanarConfiguration=0, PhotometricInterpretation="RGB"
    )
    encapsulated(
        path, JPEGBaseline8Bit, [jpeg(Image.fromarray(colour))], PhotometricInterpretation="YBR_FULL_422"
    )
    np.testing.assert_allclose(np.asarray(open_image(path))[8, 8], (200, 30, 60), atol=6)


def test_an_uncompressed_ybr_picture_is_shown_in_its_colours(tmp_path: Path) -> None:
    ybr = np.asarray(Image.new("RGB", (8, 8), (200, 30, 60)).convert("YCbCr"))
    path = write_dicom(tmp_path / "a.dcm", ybr, PlanarConfiguration=0, PhotometricInterpretation="YBR_FULL")
    np.testing.assert_allclose(np.asarray(open_image(path))[4, 4], (200, 30, 60), atol=3)


@pytest.mark.filterwarnings("ignore:End of file reached:UserWarning")  # pydicom, of the cut
def test_a_truncated_stream_is_refused(tmp_path: Path) -> None:
    dataset = pydicom.dcmread(write_dicom(tmp_path / "a.dcm", DEEP, **TWELVE))
    dataset.compress(RLELossless)
    dataset.save_as(tmp_path / "a.dcm")
    content = (tmp_path / "a.dcm").read_bytes()
    (tmp_path / "a.dcm").write_bytes(content[: len(content) // 2])
    with pytest.raises(BadImage, match="cut off before its end"):
        open_image(tmp_path / "a.dcm")


def test_several_compressed_frames_are_refused_before_they_are_decoded(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", np.stack([RAMP, RAMP]), NumberOfFrames=2)
    encapsulated(path, JPEGBaseline8Bit, [b"no jpeg", b"no jpeg"])
    with pytest.raises(BadImage, match="2 frames"):
        open_image(path)


def test_a_syntax_without_a_plug_in_says_what_to_install(tmp_path: Path) -> None:
    path = encapsulated(write_dicom(tmp_path / "a.dcm", RAMP), JPEGLSLossless, [b"\xff\xd8 some stream"])
    JPEGLSLosslessDecoder.remove_plugin("pylibjpeg")
    try:
        with pytest.raises(BadImage, match=r"JPEG-LS Lossless.*annotation-loop\[dicom\]"):
            open_image(path)
    finally:
        JPEGLSLosslessDecoder.add_plugin("pylibjpeg", ("pydicom.pixels.decoders.pylibjpeg", "_decode_frame"))
    assert JPEGLSLosslessDecoder.is_available


def test_a_film_is_refused_with_the_fact(tmp_path: Path) -> None:
    path = encapsulated(write_dicom(tmp_path / "a.dcm", RAMP), MPEG2, [b"film"])
    with pytest.raises(BadImage, match="MPEG2"):
        open_image(path)


@pytest.mark.parametrize("shape", [(7, 9), (1, 1), (1, 33), (101, 5)])
def test_odd_sizes_keep_every_pixel(tmp_path: Path, shape: tuple[int, int]) -> None:
    pixels = (np.arange(shape[0] * shape[1]) % 256).astype(np.uint8).reshape(shape)
    dicom = write_dicom(tmp_path / "a.dcm", pixels.astype(np.uint16), WindowCenter=128, WindowWidth=256)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    np.testing.assert_array_equal(np.asarray(open_image(tmp_path / "a.png")), pixels)
    # a window of 0 to 255 shows stored values as they are: DICOM PS3.3 C.11.2.1.2.1
    np.testing.assert_array_equal(np.asarray(open_image(dicom)), pixels)


def shipped(name: str) -> Path:
    """A file of another maker, from pydicom's own tests; only those that come with the package."""
    path = get_testdata_file(name, download=False)
    assert isinstance(path, str)
    return Path(path)


@pytest.mark.parametrize(
    ("name", "same", "most"),
    [
        ("MR_small_jpeg_ls_lossless.dcm", "MR_small.dcm", 0),
        ("MR_small_jp2klossless.dcm", "MR_small.dcm", 0),
        ("MR_small_RLE.dcm", "MR_small.dcm", 0),
        ("SC_rgb_jpeg_gdcm.dcm", "SC_rgb_rle.dcm", 0),  # JPEG lossless, process 14: what most hospitals send
        ("SC_rgb_jls_lossy_line.dcm", "SC_rgb_rle.dcm", 2),
        ("SC_rgb_jpeg_dcmtk.dcm", "SC_rgb_rle.dcm", 8),
    ],
)
def test_files_of_other_makers_show_what_their_plain_siblings_show(name: str, same: str, most: int) -> None:
    ours, plain = (np.asarray(open_image(shipped(n)).convert("RGB")).astype(int) for n in (name, same))
    assert plain.std() > 10
    assert np.abs(ours - plain).max() <= most


@pytest.mark.parametrize("name", ["JPGExtended.dcm", "JPEG2000.dcm", "JPEGLSNearLossless_16.dcm"])
def test_12_and_16_bit_lossy_files_of_other_makers_are_read(name: str) -> None:
    picture = open_image(shipped(name))
    header = pydicom.dcmread(shipped(name), stop_before_pixels=True)
    assert (picture.mode, picture.size) == ("L", (header.Columns, header.Rows))
    assert np.asarray(picture).std() > 10
