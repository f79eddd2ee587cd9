"""Small, valid DICOM files that tests write themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian, generate_uid

RAMP = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4  # (8, 8), 0 to 252


def write_dicom(path: Path, pixels: NDArray[Any], **tags: Any) -> Path:
    """Write pixels (rows, columns) or (rows, columns, 3) with the tags given."""
    dataset = pydicom.Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = ComputedRadiographyImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset.SOPClassUID = ComputedRadiographyImageStorage
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID
    bits = 8 * pixels.dtype.itemsize
    described = {
        "Rows": pixels.shape[-3] if pixels.shape[-1] == 3 else pixels.shape[-2],
        "Columns": pixels.shape[-2] if pixels.shape[-1] == 3 else pixels.shape[-1],
        "SamplesPerPixel": 3 if pixels.shape[-1] == 3 else 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": bits,
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PixelRepresentation": 0,
        "PatientID": "0815-Muster",
    } | tags
    for name, value in described.items():
        setattr(dataset, name, value)
    dataset.PixelData = pixels.tobytes()
    dataset["PixelData"].VR = "OB" if bits == 8 else "OW"
    dataset.save_as(path, enforce_file_format=True)
    return path
