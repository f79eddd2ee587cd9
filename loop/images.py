"""Images as hospitals have them: PNG, JPEG and DICOM, opened as 8-bit pictures."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from loop.errors import BadInput

DICOM_SUFFIXES = (".dcm", ".dicom", "")
SUFFIXES = (".png", ".jpg", ".jpeg", *DICOM_SUFFIXES)


class BadImage(BadInput):
    """A file that cannot be shown as one picture; the message says why."""


def is_dicom(path: Path) -> bool:
    """Whether a file says of itself that it is DICOM."""
    try:
        with path.open("rb") as file:
            file.seek(128)
            return file.read(4) == b"DICM"
    except OSError:
        return False


def open_image(path: Path) -> Image.Image:
    """Open an image as 8-bit grey (``L``) or colour (``RGB``).

    16-bit pictures are stretched over their range, palettes and transparency are flattened on black, EXIF
    orientation is applied. Of DICOM, the modality and VOI transformations are applied and MONOCHROME1 is inverted.

    Raises:
        BadImage: No image, a truncated one, or several frames.
    """
    if is_dicom(path):
        return _open_dicom(path)
    try:
        with Image.open(path) as opened:
            opened.load()
            return _flattened(ImageOps.exif_transpose(opened))
    except UnidentifiedImageError:
        raise BadImage(f"{path}: no PNG, JPEG or DICOM inside") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise BadImage(f"{path}: {error}") from None


def render_png(path: Path, out: Path) -> None:
    """Write an image as PNG for a browser; the file appears whole or not at all."""
    draft = out.with_name(f".{out.name}.{os.getpid()}")
    open_image(path).save(draft, format="PNG")
    draft.replace(out)


def read_patient_id(path: Path) -> str:
    """PatientID of a DICOM file; empty if it has none. No other tag is read.

    Raises:
        BadImage: The header cannot be read.
    """
    import pydicom

    try:
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["PatientID"])
    except (OSError, pydicom.errors.InvalidDicomError, ValueError) as error:
        raise BadImage(f"{path}: {error}") from None
    return str(header.get("PatientID", "") or "").strip()


def _open_dicom(path: Path) -> Image.Image:
    import pydicom
    from pydicom.pixels import apply_modality_lut, apply_voi_lut  # type: ignore[attr-defined]

    try:
        dataset = pydicom.dcmread(path)
        frames = int(dataset.get("NumberOfFrames", 1) or 1)
        if frames > 1:
            raise BadImage(f"{path}: holds {frames} frames; export the one to label as an image of its own")
        pixels = dataset.pixel_array
        if dataset.PhotometricInterpretation.startswith("MONOCHROME"):
            pixels = apply_voi_lut(apply_modality_lut(pixels, dataset), dataset)
            grey = _stretched(np.asarray(pixels, dtype=np.float64))
            return Image.fromarray(255 - grey if dataset.PhotometricInterpretation == "MONOCHROME1" else grey)
        return Image.fromarray(_stretched(np.asarray(pixels, dtype=np.float64))).convert("RGB")
    except BadImage:
        raise
    except (
        OSError,
        AttributeError,
        KeyError,
        NotImplementedError,
        RuntimeError,
        TypeError,
        ValueError,
        pydicom.errors.InvalidDicomError,
    ) as error:
        raise BadImage(f"{path}: the DICOM pixels cannot be read ({error})") from None


def _flattened(image: Image.Image) -> Image.Image:
    if image.mode in ("I;16", "I;16B", "I;16L", "I", "F"):
        return Image.fromarray(_stretched(np.asarray(image, dtype=np.float64)))
    if image.mode in ("P", "PA", "LA", "RGBA", "La", "RGBa") or "transparency" in image.info:
        colour = image.convert("RGBA")
        flat = Image.alpha_composite(Image.new("RGBA", colour.size, (0, 0, 0, 255)), colour).convert("RGB")
        return flat.convert("L") if image.mode in ("LA", "La") else flat
    return image.convert("L") if image.mode in ("1", "L") else image.convert("RGB")


def _stretched(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    low, high = float(pixels.min()), float(pixels.max())
    if high <= low:
        return np.zeros(pixels.shape, dtype=np.uint8)
    return np.rint((pixels - low) * (255.0 / (high - low))).astype(np.uint8)
