"""A DICOM file up to its pixels: recognised, checked, and its gaps filled."""

import zlib
from pathlib import Path

import pydicom
from pydicom import Dataset
from pydicom.filereader import read_file_meta_info
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from lungbox.constants import MAX_PIXELS
from lungbox.radiograph.levels import check_pixels
from lungbox.radiograph.types import RadiographError, brief

# Larger elements are read only once the header has been found in order.
_DEFER = 2**20
# The largest image of 16-bit colour, and a header: a deflated file may not become more.
_MAX_INFLATED = MAX_PIXELS * 6 + 2**24


def is_dicom(start: bytes) -> bool:
    """Whether a file that starts like this (132 bytes or more) is DICOM.

    Either it has the standard's preamble, or it begins with an element of group 2 or 8, as files
    without the preamble do: a value representation of two capitals, or a short length.
    """
    if start[128:132] == b"DICM":
        return True
    if start[:2] not in (b"\x02\x00", b"\x08\x00"):
        return False
    explicit = start[4:6].isalpha() and start[4:6].isupper()
    return explicit or int.from_bytes(start[4:8], "little") <= 1024


def read_header(path: Path) -> Dataset:
    """Read a DICOM file up to its pixels, and check that they can be a radiograph.

    Raises:
        RadiographError: it is damaged, has no image, several frames, or too many pixels.
    """
    try:
        _check_inflated_size(path)
        dataset = pydicom.dcmread(path, force=True, defer_size=_DEFER)
        _complete_file_meta(dataset)
        _check_image(dataset)
        _fill_gaps(dataset)
    except RadiographError:
        raise
    except Exception as error:  # a damaged header can raise anything
        raise RadiographError(f"the DICOM header is damaged ({brief(error)})") from error
    return dataset


def _check_inflated_size(path: Path) -> None:
    """A deflated file is inflated as a whole while it is read, whatever becomes of it."""
    with path.open("rb") as file:
        if file.read(132)[128:] != b"DICM":
            return
        meta = read_file_meta_info(path)
        if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
            return
        # The group's length counts from behind its own element, of 12 bytes.
        file.seek(132 + 12 + int(meta.FileMetaInformationGroupLength))
        inflater, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
        while piece := inflater.unconsumed_tail or file.read(2**20):
            size += len(inflater.decompress(piece, 2**20))
            if size > _MAX_INFLATED:
                raise RadiographError("it becomes larger than any radiograph when it is inflated")


def _complete_file_meta(dataset: Dataset) -> None:
    """Files without file meta information say nothing of their transfer syntax."""
    if not hasattr(dataset, "file_meta"):
        dataset.ensure_file_meta()
    if "TransferSyntaxUID" not in dataset.file_meta:
        implicit = dataset.original_encoding[0]
        syntax = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
        dataset.file_meta.TransferSyntaxUID = syntax


def _check_image(dataset: Dataset) -> None:
    if "FloatPixelData" in dataset or "DoubleFloatPixelData" in dataset:
        raise RadiographError("a DICOM file of computed numbers (a parametric map), no radiograph")
    if "PixelData" not in dataset:
        what = getattr(dataset.get("SOPClassUID"), "name", "") or "no pixel data"
        raise RadiographError(f"a DICOM file without an image ({what})")
    frames = int(dataset.get("NumberOfFrames") or 1)
    if frames > 1:
        raise RadiographError(
            f"it holds {frames} frames; save the one to read as a file of its own"
        )
    for name in ("Rows", "Columns", "BitsAllocated", "PhotometricInterpretation"):
        if dataset.get(name) in (None, ""):
            raise RadiographError(f"the DICOM header has no {name}")
    check_pixels(int(dataset.Columns), int(dataset.Rows))


def _fill_gaps(dataset: Dataset) -> None:
    """What a header should say but need not, where there is only one sensible answer."""
    photometric = str(dataset.PhotometricInterpretation).strip().upper()
    dataset.PhotometricInterpretation = photometric
    gray = photometric.startswith(("MONOCHROME", "PALETTE"))
    stored = dataset.get("BitsStored") or dataset.BitsAllocated
    for name, value in (
        ("SamplesPerPixel", 1 if gray else 3),
        ("BitsStored", stored),
        ("HighBit", int(stored) - 1),
        ("PixelRepresentation", 0),
    ):
        if dataset.get(name) in (None, ""):
            setattr(dataset, name, value)
    if not gray and dataset.get("PlanarConfiguration") in (None, ""):
        dataset.PlanarConfiguration = 0
