"""Radiographs as the RSNA challenge ships them: 8-bit baseline JPEG in DICOM."""

from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGBaseline8Bit, SecondaryCaptureImageStorage, generate_uid

from lungbox.folder import gather
from lungbox.radiograph import RadiographError, read

QUALITY = 90


def write_dicoms(images: Path, folder: Path, count: int, side: int = 1024) -> None:
    """Write `count` JPEG DICOMs of `side` x `side` pixels, made of the radiographs in `images`,
    each as often as needed; no two files are the same to the byte."""
    folder.mkdir(parents=True, exist_ok=True)
    pixels = [_sized(source.path, side) for source in gather(images)[0]]
    usable = [one for one in pixels if one is not None]
    if not usable:
        raise SystemExit(f"{images}: no radiographs to make DICOMs of")
    for number in range(count):
        path = folder / f"{number:05d}.dcm"
        _dataset(usable[number % len(usable)]).save_as(path, enforce_file_format=True)


def _sized(path: Path, side: int) -> NDArray[np.uint8] | None:
    try:
        image = Image.fromarray(read(path).pixels)
    except RadiographError:
        return None  # a table of labels, for instance
    return np.asarray(image.resize((side, side), Image.Resampling.LANCZOS))


def _dataset(pixels: NDArray[np.uint8]) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = JPEGBaseline8Bit
    found = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    found.SOPClassUID, found.SOPInstanceUID = meta[0x00020002].value, meta[0x00020003].value
    found.StudyInstanceUID, found.SeriesInstanceUID = generate_uid(), generate_uid()
    found.Modality, found.BodyPartExamined, found.ViewPosition = "CR", "CHEST", "PA"
    found.PatientID = found.PatientName = "benchmark"
    found.Rows, found.Columns = pixels.shape
    found.SamplesPerPixel, found.PhotometricInterpretation = 1, "MONOCHROME2"
    found.BitsAllocated = found.BitsStored = 8
    found.HighBit, found.PixelRepresentation = 7, 0
    found.LossyImageCompression = "01"
    content = BytesIO()
    Image.fromarray(pixels).save(content, "JPEG", quality=QUALITY)
    found.PixelData = encapsulate([content.getvalue()])
    return found
