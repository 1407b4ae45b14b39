"""A DICOM file up to its pixels: recognised, checked, and its gaps filled."""

import zlib
from pathlib import Path

import pydicom
from pydicom import Dataset
from pydicom.filereader import read_dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
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
    explicit = start[4:6].isalpha() and start[4:6].isupper()
    if start[:2] == b"\x00\x08":  # big-endian, which is always explicit
        return explicit
    if start[:2] not in (b"\x02\x00", b"\x08\x00"):
        return False
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


def read_before_pixels(path: Path) -> Dataset:
    """Read what stands before a DICOM file's pixels, and no more of the file than that.

    Whether the pixels are there, and whole, is not known then.

    Raises:
        RadiographError: it is damaged, or has no size of an image, or too large a one.
    """
    try:
        _check_inflated_size(path)
        dataset = pydicom.dcmread(path, force=True, stop_before_pixels=True)
        for name in ("Rows", "Columns"):
            if dataset.get(name) in (None, ""):
                raise RadiographError(f"the DICOM header has no {name}")
        check_pixels(int(dataset.Columns), int(dataset.Rows))
    except RadiographError:
        raise
    except Exception as error:  # a damaged header can raise anything
        raise RadiographError(f"the DICOM header is damaged ({brief(error)})") from error
    return dataset


def _check_inflated_size(path: Path) -> None:
    """A deflated file is inflated as a whole while it is read, whatever becomes of it."""
    with path.open("rb") as file:
        if file.read(132)[128:] != b"DICM":
            file.seek(0)  # without the preamble
        # As pydicom reads it, and up to where, whatever length the group gives itself.
        meta = read_dataset(file, False, True, stop_when=lambda tag, *_: tag.group != 2)
        if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
            return
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
        implicit, little = dataset.original_encoding
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit


def _check_image(dataset: Dataset) -> None:
    if "FloatPixelData" in dataset or "DoubleFloatPixelData" in dataset:
        raise RadiographError("a DICOM file of computed numbers (a parametric map), no radiograph")
    if not _has_pixels(dataset):
        # Of a file that ends within a compressed image pydicom leaves nothing at all.
        if not len(dataset) or dataset.get("Rows"):
            raise RadiographError(
                "a DICOM file without an image, most likely cut off; copy it again from its source"
            )
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


def _has_pixels(dataset: Dataset) -> bool:
    if "PixelData" not in dataset:
        return False
    # As it stands in the file: large pixel data has a length but has not been read yet.
    element = dataset.get_item("PixelData")
    return bool(element.value or getattr(element, "length", 0))


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
