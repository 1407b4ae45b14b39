"""A DICOM file up to its pixels: recognised, checked, and its gaps filled."""

import math
import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, cast

import pydicom
from pydicom import Dataset
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.filereader import read_dataset
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from lungbox.constants import MAX_FILE_BYTES
from lungbox.radiograph.levels import check_decoding, check_pixels
from lungbox.radiograph.opening import Bounded, open_file
from lungbox.radiograph.types import RadiographError, brief

# Larger elements are read only once the header has been found in order.
_DEFER = 2**20
# Bytes of the longest value that is looked at. pydicom makes an object of each number and each
# word of it, so one of a megabyte would take hundreds.
_LONGEST = 2**14
_LONGEST_LUT = 2**18  # a table of all 16-bit values, twice
_LUTS = ("ModalityLUTSequence", "VOILUTSequence")
_LUT_DATA = (
    "LUTData",
    *(f"{c}PaletteColorLookupTableData" for c in ("Red", "Green", "Blue")),
)
_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_LONGEST_OF = {
    tag_for_keyword("ViewCodeSequence"): _LONGEST,
    **{tag_for_keyword(name): 2 * _LONGEST_LUT for name in _LUTS},
    **{tag_for_keyword(name): _LONGEST_LUT for name in _LUT_DATA},
    # Compared with the header's size instead.
    **{tag_for_keyword(name): 2**32 for name in _PIXELS},
}
# The length of an element that is ended by a delimiter instead.
_UNDEFINED = 2**32 - 1
# More pixel data than the header needs, beyond which something is wrong: a thumbnail is small.
_SLACK = 2**20
# Bytes of memory a pixel takes while it is decoded and becomes gray.
_MEMORY_GRAY, _MEMORY_WIDE, _MEMORY_COLOUR = 10, 60, 48


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
        dataset = _parse(path)
        _complete_file_meta(dataset)
        _check_image(dataset)
        _fill_gaps(dataset)
        _check_amounts(dataset)
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
        dataset = _parse(path, stop_before_pixels=True)
        for name in ("Rows", "Columns"):
            if dataset.get(name) in (None, ""):
                raise RadiographError(f"the DICOM header has no {name}")
        check_pixels(int(dataset.Columns), int(dataset.Rows))
    except RadiographError:
        raise
    except Exception as error:  # a damaged header can raise anything
        raise RadiographError(f"the DICOM header is damaged ({brief(error)})") from error
    return dataset


def decoding_bytes(dataset: Dataset) -> int:
    """Memory at its peak while the pixels of a complete header are decoded and become gray."""
    gray = int(dataset.SamplesPerPixel) == 1 and dataset.PhotometricInterpretation[:4] == "MONO"
    wide = int(dataset.BitsAllocated) > 16
    a_pixel = _MEMORY_WIDE if wide else _MEMORY_GRAY if gray else _MEMORY_COLOUR
    return int(dataset.Rows) * int(dataset.Columns) * a_pixel


def _parse(path: Path, stop_before_pixels: bool = False) -> Dataset:
    """The elements of a file, large ones not read yet, without those that are never asked for."""
    with open_file(path) as file:
        inflated = _inflated(file)
        if inflated is not None:
            dataset = inflated
        else:
            bounded = Bounded(file)
            dataset = pydicom.dcmread(
                bounded, _DEFER, stop_before_pixels=stop_before_pixels, force=True
            )
            # Where the elements that are not read yet will be read from.
            dataset.filename, dataset.buffer = str(path), None
            dataset.fileobj_type = lambda name, _: open_file(Path(name))
    _drop_long(dataset)
    return dataset


def _inflated(file: BinaryIO) -> Dataset | None:
    """The elements of a deflated file; None where it is not deflated.

    pydicom would inflate it to whatever size that makes.
    """
    bounded = Bounded(file)
    if bounded.read(132)[128:] != b"DICM":
        bounded.seek(0)  # without the preamble
    # As pydicom reads it, and up to where, whatever length the group gives itself.
    meta = read_dataset(
        cast(BinaryIO, bounded), False, True, stop_when=lambda tag, *_: tag.group != 2
    )
    _drop_long(meta)
    if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
        return None
    start, size = file.tell(), 0
    for piece in _pieces(file):
        size += len(piece)
        if size > MAX_FILE_BYTES:
            raise RadiographError("it becomes larger than any radiograph when it is inflated")
    file.seek(start)
    content = BytesIO()
    for piece in _pieces(file):
        content.write(piece)
    elements = read_dataset(cast(BinaryIO, Bounded(content)), False, True, defer_size=_DEFER)
    # What is not read yet will be read from `content`.
    dataset = FileDataset(content, elements, None, FileMetaDataset(meta), False, True)
    dataset.set_original_encoding(False, True, elements.original_character_set)
    return dataset


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    """What the rest of a file inflates to."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    while not inflater.eof and (piece := inflater.unconsumed_tail or file.read(2**20)):
        yield inflater.decompress(piece, 2**20)


def _drop_long(dataset: Dataset) -> None:
    """Take out values longer than any that is asked for, and sequences that are never asked for."""
    for tag in list(dataset.keys()):
        element = dataset.get_item(tag, keep_deferred=True)
        if not isinstance(element, RawDataElement) and element.VR == "SQ":
            if tag not in _LONGEST_OF:
                del dataset[tag]
                continue
            for item in element.value:
                _drop_long(item)
        elif _length(element) > _LONGEST_OF.get(tag, _LONGEST):
            del dataset[tag]


def _length(element: object) -> int:
    """Bytes of a value; of one of undefined length that is not read yet, the largest number."""
    value = getattr(element, "value", None)
    if isinstance(value, bytes | str):
        return len(value)
    return getattr(element, "length", 0)


def _complete_file_meta(dataset: Dataset) -> None:
    """Files without file meta information say nothing of their transfer syntax."""
    if not hasattr(dataset, "file_meta"):
        dataset.ensure_file_meta()
    if "TransferSyntaxUID" not in dataset.file_meta:
        implicit, little = dataset.original_encoding
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit
    if not isinstance(dataset.file_meta.TransferSyntaxUID, UID):
        raise RadiographError("the DICOM header has no transfer syntax that is one")


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


def _check_amounts(dataset: Dataset) -> None:
    """Compare what there is with what the header needs, before any of it is read."""
    allocated, samples = int(dataset.BitsAllocated), int(dataset.SamplesPerPixel)
    needed = math.prod((int(dataset.Rows), int(dataset.Columns), samples, allocated)) // 8
    there = _length(dataset.get_item("PixelData", keep_deferred=True))
    if _UNDEFINED > there > 2 * needed + _SLACK:
        raise RadiographError(
            f"it holds {there:,} bytes of pixel data where its header's size and depth need "
            f"{needed:,}; the header is wrong, or there are several images"
        )
    check_decoding(decoding_bytes(dataset))


def _has_pixels(dataset: Dataset) -> bool:
    if "PixelData" not in dataset:
        return False
    # As it stands in the file: large pixel data has a length but has not been read yet.
    return _length(dataset.get_item("PixelData", keep_deferred=True)) > 0


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
