"""Images as hospitals have them: PNG, JPEG and DICOM, opened as 8-bit pictures."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import IO, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from loop.commits import whole
from loop.errors import BadInput

MOST_PIXELS = 2 * (
    Image.MAX_IMAGE_PIXELS or 89_478_485
)  # beyond it a header is damaged, or the file an attack
FAR_OUT = 1e9  # beyond every stored value
MOST_OBLONG = 50  # sides; resized to an encoder's input, a line of pixels would fill the memory
DAMAGED = (  # what decoders raise, led astray by damaged bytes
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    Image.DecompressionBombError,
    struct.error,
    zlib.error,
)


class BadImage(BadInput):
    """A file that cannot be shown as one picture; the message says why."""


class Readable(Protocol):
    """Where the bytes of an image lie: a path, or a member of a zip file. Its text names it to people."""

    def open(self, mode: Literal["rb"]) -> IO[bytes]:
        """Open for reading; what cannot be read is an OSError."""
        ...


def is_dicom(path: Readable) -> bool:
    """Whether a file says of itself that it is DICOM."""
    try:
        with path.open("rb") as file:
            return says_dicom(file)
    except OSError:
        return False


def open_image(path: Readable, least_side: int | None = None) -> Image.Image:
    """Open an image as 8-bit grey (``L``) or colour (``RGB``).

    16-bit pictures are stretched over their range, palettes and transparency are flattened on black, EXIF
    orientation is applied. Of DICOM, the modality and VOI transformations are applied and MONOCHROME1 is inverted.

    Args:
        path: Where it lies.
        least_side: A large JPEG may be decoded at a half, a quarter or an eighth of its size, which is several times
            faster, as long as its shorter side keeps this many pixels.

    Raises:
        BadImage: No image, a truncated one, several frames, or a size that no picture has.
    """
    try:
        with path.open("rb") as file:  # once: a member of a zip file is unpacked anew each time
            if says_dicom(file):
                return _open_dicom(path, file)
            with Image.open(file, formats=("PNG", "JPEG")) as opened:
                _check_size(path, *opened.size)
                if least_side is not None:
                    opened.draft(None, (least_side, least_side))  # of a JPEG; of others nothing
                opened.load()
                return _flattened(ImageOps.exif_transpose(opened))
    except BadImage:
        raise
    except UnidentifiedImageError:
        raise BadImage(f"{path}: no PNG, JPEG or DICOM inside") from None
    except DAMAGED as error:
        raise BadImage(f"{path}: {_reason(error)}") from None


def render_png(path: Path, out: Path) -> None:
    """Write an image as PNG for a browser; the file appears whole or not at all."""
    image = open_image(path)
    with whole(out) as draft:
        image.save(draft, format="PNG")


def read_patient_id(path: Path) -> str:
    """PatientID of a DICOM file; empty if it has none. No other tag is read.

    Raises:
        BadImage: The header cannot be read.
    """
    import pydicom

    try:
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["PatientID"])
    except (*DAMAGED, pydicom.errors.InvalidDicomError):
        raise BadImage(f"{path}: the DICOM header cannot be read") from None  # a reason might quote the tag
    return str(header.get("PatientID", "") or "").strip()


def says_dicom(file: IO[bytes]) -> bool:
    """Whether the first bytes of an open file are DICOM's; the file is at its start again afterwards."""
    start = file.read(132)
    file.seek(0)
    return start[128:] == b"DICM"


def _open_dicom(path: Readable, file: IO[bytes]) -> Image.Image:
    import pydicom
    from pydicom.pixels import apply_color_lut  # type: ignore[attr-defined]

    try:
        dataset = pydicom.dcmread(file)
        if "PixelData" not in dataset:
            raise BadImage(f"{path}: a DICOM file without an image, or cut off before its end")
        frames = int(dataset.get("NumberOfFrames", 1) or 1)
        if frames > 1:
            raise BadImage(f"{path}: holds {frames} frames; export the one to label as an image of its own")
        _check_size(path, int(dataset.Columns), int(dataset.Rows))
        _check_decoder(path, dataset.file_meta.TransferSyntaxUID)
        pixels = dataset.pixel_array
        meaning = str(dataset.PhotometricInterpretation)
        if meaning.startswith("MONOCHROME"):
            grey = _grey(pixels, dataset)
            return Image.fromarray(255 - grey if meaning == "MONOCHROME1" else grey)
        if meaning == "PALETTE COLOR":
            pixels = apply_color_lut(pixels, dataset)
        if pixels.dtype.itemsize > 1:
            pixels = pixels >> 8 if int(pixels.max()) > 255 else pixels
        return Image.fromarray(pixels.astype(np.uint8)).convert("RGB")
    except BadImage:
        raise
    except (*DAMAGED, pydicom.errors.InvalidDicomError) as error:
        raise BadImage(f"{path}: the DICOM pixels cannot be read ({_reason(error)})") from None


def _check_decoder(path: Readable, syntax: Any) -> None:
    from pydicom.pixels import get_decoder  # type: ignore[attr-defined]

    if syntax.is_compressed and syntax.is_encapsulated and not get_decoder(syntax).is_available:
        raise BadImage(
            f"{path}: compressed as {syntax.name}, which needs a plug-in: pip install 'annotation-loop[dicom]'"
        )


def _grey(pixels: NDArray[Any], dataset: Any) -> NDArray[np.uint8]:
    """Greys on the scale the file asks for: its VOI table, else its window, else the range of what is no padding."""
    from pydicom.pixels import apply_modality_lut, apply_voi, apply_windowing  # type: ignore[attr-defined]

    values = apply_modality_lut(pixels, dataset)
    tables = dataset.get("VOILUTSequence")
    if tables and "LUTDescriptor" in tables[0] and "LUTData" in tables[0]:
        n, first = int(tables[0].LUTDescriptor[0]) or 2**16, int(tables[0].LUTDescriptor[1])
        whole = apply_voi(np.arange(first, first + n), dataset)
        looked_up = apply_voi(np.rint(values).astype(np.int64), dataset)  # a table has whole numbers
        return _stretched(looked_up.astype(np.float64), float(whole.min()), float(whole.max()))
    if _has_window(dataset):
        with np.errstate(over="ignore"):  # of the sigmoid, far out
            low, high = apply_windowing(np.array([-FAR_OUT, FAR_OUT]), dataset)
        return _stretched(apply_windowing(values, dataset), low, high)
    inside = values[~_padding(pixels, dataset)]
    if not inside.size:
        return np.zeros(pixels.shape, dtype=np.uint8)
    return _stretched(values.astype(np.float64), float(inside.min()), float(inside.max()))


def _has_window(dataset: Any) -> bool:
    """Whether there is a window, and one that shows something: files say width 0 where they mean none."""
    width = dataset.get("WindowWidth")
    widths = [width] if isinstance(width, (int, float)) else list(width or [])
    least = 1 if dataset.get("VOILUTFunction", "LINEAR") == "LINEAR" else 1e-6
    return dataset.get("WindowCenter") is not None and bool(widths) and float(widths[0]) >= least


def _padding(pixels: NDArray[Any], dataset: Any) -> NDArray[np.bool_]:
    """Which stored pixels only fill the rectangle."""
    value = dataset.get("PixelPaddingValue")
    if value is None:
        return np.zeros(pixels.shape, dtype=np.bool_)
    low, high = sorted((int(value), int(dataset.get("PixelPaddingRangeLimit", value))))
    return np.asarray((pixels >= low) & (pixels <= high))


def _check_size(path: Readable, width: int, height: int) -> None:
    short, long = sorted((width, height))
    if short < 1 or width * height > MOST_PIXELS or long > MOST_OBLONG * short:
        raise BadImage(f"{path}: says it is {width:,} x {height:,} pixels, which no X-ray is")


def _reason(error: BaseException) -> str:
    return str(error) or type(error).__name__


def _flattened(image: Image.Image) -> Image.Image:
    if image.mode in ("I;16", "I;16B", "I;16L", "I", "F"):
        deep = np.asarray(image, dtype=np.float64)
        return Image.fromarray(_stretched(deep, float(deep.min()), float(deep.max())))
    if image.mode in ("P", "PA", "LA", "RGBA", "La", "RGBa") or "transparency" in image.info:
        colour = image.convert("RGBA")
        flat = Image.alpha_composite(Image.new("RGBA", colour.size, (0, 0, 0, 255)), colour).convert("RGB")
        return flat.convert("L") if image.mode in ("LA", "La") else flat
    return image.convert("L") if image.mode in ("1", "L") else image.convert("RGB")


def _stretched(pixels: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    """Greys from low to high, which may be the smaller, spread over 0 to 255; what lies outside is clipped."""
    if high == low:
        return np.zeros(pixels.shape, dtype=np.uint8)
    return np.rint(np.clip((pixels - low) * (255.0 / (high - low)), 0, 255)).astype(np.uint8)
