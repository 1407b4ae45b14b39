"""A DICOM header: recognised, read within limits, checked, and its gaps filled."""

import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, cast

import pydicom
from pydicom import DataElement, Dataset
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.filereader import read_dataset
from pydicom.multival import MultiValue
from pydicom.tag import Tag
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from lungbox.constants import MAX_FILE_BYTES
from lungbox.radiograph.limits import BoundedReader, check_decoding, check_pixels, open_source
from lungbox.radiograph.types import RadiographError, short_message

# Larger elements are read only once the header has been checked.
_DEFER = 2**20
# Bytes of the longest value in use. pydicom makes an object of each number and each word of it,
# so one of a megabyte would take hundreds.
_MAX_VALUE = 2**14
_MAX_LUT = 2**18  # a table of all 16-bit values, twice
_LUTS = ("ModalityLUTSequence", "VOILUTSequence")
_LUT_DATA = (
    "LUTData",
    *(f"{c}PaletteColorLookupTableData" for c in ("Red", "Green", "Blue")),
)
_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_MAX_VALUE_OF = {
    Tag("ViewCodeSequence"): _MAX_VALUE,
    **dict.fromkeys(map(Tag, _LUTS), 2 * _MAX_LUT),
    **dict.fromkeys(map(Tag, _LUT_DATA), _MAX_LUT),
    # Compared with the header's size instead.
    **dict.fromkeys(map(Tag, _PIXELS), 2**32),
}
# The length of an element that ends with a delimiter instead.
_UNDEFINED = 2**32 - 1
# Bytes of a number in an element of several; text is measured.
_NUMBER_BYTES = {"US": 2, "SS": 2, "US or SS": 2, "UL": 4, "SL": 4, "FL": 4, "FD": 8}
# More pixel data than the header needs, beyond which something is wrong: a thumbnail is small.
_SLACK = 2**20
# Bytes of memory a pixel takes while it is decoded and becomes gray.
_MEMORY_GRAY, _MEMORY_WIDE, _MEMORY_COLOUR = 10, 60, 48
_CUT_OFF = "a DICOM file without an image, most likely cut off; copy it again from its source"


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


def read_header(source: Path | bytes | Dataset) -> Dataset:
    """Read a DICOM file up to its pixels, and check that they can be a radiograph.

    A dataset in memory is checked in the same way; what is returned is then a copy of its own.

    Raises:
        RadiographError: it is damaged, has no image, several frames, or too many pixels.
    """
    with naming_damage():
        dataset = _parse(source)
        _complete_file_meta(dataset)
        _check_image(dataset)
        _fill_gaps(dataset)
        _check_amounts(dataset)
    return dataset


def read_before_pixels(source: Path | bytes | Dataset) -> Dataset:
    """Read the elements before a DICOM file's pixel data, and no more of the file than that.

    Whether the pixel data is complete is not checked.

    Raises:
        RadiographError: it is damaged, or has no image size, or too large a one.
    """
    with naming_damage():
        dataset = _parse(source, stop_before_pixels=True)
        _require(dataset, "Rows", "Columns")
        check_pixels(int(dataset.Columns), int(dataset.Rows))
    return dataset


@contextmanager
def naming_damage() -> Iterator[None]:
    """Turn whatever a damaged header raises into a `RadiographError`.

    Elements are parsed when they are used, so most of a header's damage is found late.
    """
    try:
        yield
    except RadiographError:
        raise
    except Exception as error:  # a damaged header can raise anything
        raise RadiographError(f"the DICOM header is damaged ({short_message(error)})") from error


def decoding_bytes(dataset: Dataset) -> int:
    """Peak memory while the pixels of a checked header are decoded and become gray."""
    gray = int(dataset.SamplesPerPixel) == 1 and dataset.PhotometricInterpretation[:4] == "MONO"
    wide = int(dataset.BitsAllocated) > 16
    per_pixel = _MEMORY_WIDE if wide else _MEMORY_GRAY if gray else _MEMORY_COLOUR
    return int(dataset.Rows) * int(dataset.Columns) * per_pixel


def _parse(source: Path | bytes | Dataset, stop_before_pixels: bool = False) -> Dataset:
    """The elements in use, large ones not read yet."""
    if isinstance(source, Dataset):
        dataset = _copy(source)
    else:
        dataset = _parse_file(source, stop_before_pixels)
    if not _drop_unused(dataset):
        # pydicom keeps nothing of a file that ends within a compressed image.
        raise RadiographError(_CUT_OFF)
    return dataset


def _parse_file(source: Path | bytes, stop_before_pixels: bool) -> Dataset:
    with open_source(source) as file:
        inflated = _inflated(file)
        if inflated is not None:
            return inflated
        dataset = pydicom.dcmread(
            BoundedReader(file), _DEFER, stop_before_pixels=stop_before_pixels, force=True
        )
    # Where the elements that are not read yet will be read from.
    if isinstance(source, Path):
        dataset.filename, dataset.buffer = str(source), None
        dataset.fileobj_type = lambda name, _: open_source(Path(name))
    else:
        dataset.filename, dataset.buffer = None, BytesIO(source)
    return dataset


def _inflated(file: BinaryIO) -> Dataset | None:
    """The elements of a deflated file; None where it is not deflated.

    pydicom would inflate it to whatever size that gives.
    """
    bounded = BoundedReader(file)
    if bounded.read(132)[128:] != b"DICM":
        bounded.seek(0)  # without the preamble
    # As pydicom reads it, and up to where, whatever length the group gives itself.
    meta = read_dataset(
        cast(BinaryIO, bounded), False, True, stop_when=lambda tag, *_: tag.group != 2
    )
    _drop_unused(meta)
    if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
        return None
    start, size = file.tell(), 0
    for block in _inflate(file):
        size += len(block)
        if size > MAX_FILE_BYTES:
            raise RadiographError("it becomes larger than any radiograph when it is inflated")
    file.seek(start)
    content = BytesIO()
    for block in _inflate(file):
        content.write(block)
    elements = read_dataset(cast(BinaryIO, BoundedReader(content)), False, True, defer_size=_DEFER)
    # Elements that are not read yet will be read from `content`.
    dataset = FileDataset(content, elements, None, FileMetaDataset(meta), False, True)
    dataset.set_original_encoding(False, True, elements.original_character_set)
    return dataset


def _inflate(file: BinaryIO) -> Iterator[bytes]:
    """The rest of a file, inflated in blocks."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    while not inflater.eof and (block := inflater.unconsumed_tail or file.read(2**20)):
        yield inflater.decompress(block, 2**20)


def _copy(dataset: Dataset) -> Dataset:
    """A dataset of the same elements: what is filled or dropped there stays in the caller's."""
    implicit, little = dataset.original_encoding
    little = little is not False  # of a dataset made in memory it is None
    meta = FileMetaDataset(_elements(getattr(dataset, "file_meta", Dataset())))
    copy = FileDataset(BytesIO(), _elements(dataset), None, meta, bool(implicit), little)
    copy.set_original_encoding(bool(implicit), little, dataset.original_character_set)
    # Where the elements that are not read yet will be read from.
    for name in ("filename", "buffer", "timestamp", "fileobj_type"):
        setattr(copy, name, getattr(dataset, name, None))
    for tag in set(_MAX_VALUE_OF).intersection(copy.keys()):
        element = copy.get_item(tag, keep_deferred=True)
        if isinstance(element, DataElement) and element.VR == "SQ":
            copy[tag] = DataElement(tag, "SQ", [Dataset(_elements(item)) for item in element.value])
    return copy


def _elements(dataset: Dataset) -> dict[Any, Any]:
    # Iterating over the dataset itself would parse each element.
    return {tag: dataset.get_item(tag, keep_deferred=True) for tag in list(dataset.keys())}


def _drop_unused(dataset: Dataset) -> bool:
    """Take out values longer than any in use, and sequences that are not in use.

    Returns:
        Whether there was anything but values that are too long.
    """
    has_sequence = False
    for tag in list(dataset.keys()):
        element = dataset.get_item(tag, keep_deferred=True)
        if isinstance(element, DataElement) and element.VR == "SQ":
            has_sequence = True
            if tag not in _MAX_VALUE_OF:
                del dataset[tag]
                continue
            for item in element.value:
                _drop_unused(item)
        elif _length(element) > _MAX_VALUE_OF.get(tag, _MAX_VALUE):
            del dataset[tag]
    return has_sequence or len(dataset) > 0


def _length(element: Any) -> int:
    """Bytes of a value; of one of undefined length that is not read yet, the largest number."""
    value = element.value
    if isinstance(value, bytes | bytearray | str):
        return len(value)
    if isinstance(value, MultiValue | list):
        size = _NUMBER_BYTES.get(element.VR)
        return size * len(value) if size else sum(len(str(part)) + 1 for part in value)
    return element.length if isinstance(element, RawDataElement) else 0


def _complete_file_meta(dataset: Dataset) -> None:
    """Add the transfer syntax, which files without file meta information do not have."""
    if not hasattr(dataset, "file_meta"):
        dataset.ensure_file_meta()
    if "TransferSyntaxUID" not in dataset.file_meta:
        implicit, little = dataset.original_encoding
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit
    if not isinstance(dataset.file_meta.TransferSyntaxUID, UID):
        raise RadiographError("the DICOM header's transfer syntax is not a UID")


def _check_image(dataset: Dataset) -> None:
    if "FloatPixelData" in dataset or "DoubleFloatPixelData" in dataset:
        raise RadiographError("a DICOM file of computed numbers (a parametric map), no radiograph")
    # As it stands in the file: large pixel data has a length but has not been read yet.
    if not ("PixelData" in dataset and _length(_pixel_data(dataset))):
        if dataset.get("Rows"):
            raise RadiographError(_CUT_OFF)
        kind = getattr(dataset.get("SOPClassUID"), "name", "") or "no pixel data"
        raise RadiographError(f"a DICOM file without an image ({kind})")
    frames = int(dataset.get("NumberOfFrames") or 1)
    if frames > 1:
        raise RadiographError(
            f"it holds {frames} frames; save the one to read as a file of its own"
        )
    _require(dataset, "Rows", "Columns", "BitsAllocated", "PhotometricInterpretation")
    check_pixels(int(dataset.Columns), int(dataset.Rows))


def _require(dataset: Dataset, *names: str) -> None:
    for name in names:
        if dataset.get(name) in (None, ""):
            raise RadiographError(f"the DICOM header has no {name}")


def _pixel_data(dataset: Dataset) -> Any:
    return dataset.get_item("PixelData", keep_deferred=True)


def _check_amounts(dataset: Dataset) -> None:
    """Compare the pixel data's length with what the header needs, before any of it is read."""
    allocated, samples = int(dataset.BitsAllocated), int(dataset.SamplesPerPixel)
    needed = math.prod((int(dataset.Rows), int(dataset.Columns), samples, allocated)) // 8
    available = _length(_pixel_data(dataset))
    if _UNDEFINED > available > 2 * needed + _SLACK:
        raise RadiographError(
            f"it holds {available:,} bytes of pixel data where its header's size and depth need "
            f"{needed:,}; the header is wrong, or there are several images"
        )
    check_decoding(decoding_bytes(dataset))


def _fill_gaps(dataset: Dataset) -> None:
    """Add what a header should have, where there is only one sensible value."""
    photometric = str(dataset.PhotometricInterpretation).strip().upper()
    gray = photometric.startswith(("MONOCHROME", "PALETTE"))
    stored = dataset.get("BitsStored") or dataset.BitsAllocated
    defaults = {
        "SamplesPerPixel": 1 if gray else 3,
        "BitsStored": stored,
        "HighBit": int(stored) - 1,
        "PixelRepresentation": 0,
    }
    if not gray:
        defaults["PlanarConfiguration"] = 0
    for name, value in defaults.items():
        if dataset.get(name) in (None, ""):
            _replace(dataset, name, value)
    _replace(dataset, "PhotometricInterpretation", photometric)


def _replace(dataset: Dataset, name: str, value: Any) -> None:
    """Set an element, and leave one that another dataset shares as it is."""
    dataset.add_new(name, dictionary_VR(name), value)
