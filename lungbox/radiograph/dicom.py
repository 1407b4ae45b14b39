"""DICOM pixel data to 8-bit gray, as a viewer would show it.

Stored values go through the modality LUT, then the VOI LUT or window, then MONOCHROME1 is
inverted (DICOM PS3.4, N.2). All of it is a function of the stored value alone, so it is computed
once for each value that occurs and then looked up.
"""

from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL.JpegImagePlugin import jpeg_factory
from pydicom import Dataset
from pydicom.encaps import get_frame
from pydicom.pixels import pixel_array
from pydicom.pixels.processing import apply_color_lut
from pydicom.uid import (
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from lungbox.radiograph.codecs.client import decode_in_subprocess
from lungbox.radiograph.codecs.codestream import check_scans, codestream_size
from lungbox.radiograph.grayscale import luma, render
from lungbox.radiograph.types import RadiographError, short_message

# Where an image ends too early for its last marker, libjpeg makes up the rest, and CharLS computes
# for seconds before it fails.
_ENDING_IN_EOI = (
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
)
# Compressed data never holds these two bytes.
_SOS, _EOI = b"\xff\xda", b"\xff\xd9"
# Encapsulated pixel data begins with an item.
_ITEM = b"\xfe\xff\x00\xe0"
# Longer than any radiograph's run lengths, each of which takes a step of Python.
_MAX_RLE = 2**26
_MAX_OFFSETS = 2**16


def read_pixels(dataset: Dataset) -> NDArray[np.uint8]:
    """Decode the pixels of a checked header, and map them to gray.

    Returns:
        `(Rows, Columns)` uint8, air dark, padding black.

    Raises:
        RadiographError: the pixel data is damaged or in an unsupported transfer syntax.
    """
    try:
        values = _decode(dataset)
        if "SegmentedRedPaletteColorLookupTableData" in dataset:
            # A kilobyte of it can stand for hundreds of millions of entries.
            raise RadiographError("its colours are a segmented table; save it as 8-bit gray")
        if dataset.PhotometricInterpretation == "PALETTE COLOR":
            return luma(apply_color_lut(values, dataset), _palette_bits(dataset))
        if values.ndim == 3:  # pydicom has converted YBR to RGB already
            return luma(values, int(dataset.BitsStored))
        return render(values, dataset)
    except (RadiographError, MemoryError):
        raise
    except Exception as error:  # decoders raise whatever they like on damaged data
        syntax = dataset.file_meta.TransferSyntaxUID
        raise RadiographError(
            f"the pixel data cannot be decoded ({short_message(error)}); it is cut off, damaged or "
            f"in an unsupported form ({syntax.name})"
        ) from error


def _decode(dataset: Dataset) -> NDArray:
    syntax = dataset.file_meta.TransferSyntaxUID
    if not syntax.is_encapsulated:
        return _decode_native(dataset)
    # A decoder believes the image, not the header: an image of another size would take any
    # amount of memory before that is noticed.
    _check_offset_table(dataset.PixelData)
    image = get_frame(dataset.PixelData, 0, number_of_frames=1)
    header_size = (int(dataset.Columns), int(dataset.Rows))
    _check_size(codestream_size(image), header_size)
    if syntax in _ENDING_IN_EOI and image.rfind(_EOI) <= image.rfind(_SOS):
        raise RadiographError("the image inside is cut off; copy the file again")
    scans = 0
    if syntax in (JPEGBaseline8Bit, JPEGExtended12Bit):
        scans = check_scans(image, header_size[0] * header_size[1])
    if syntax == RLELossless and len(image) > _MAX_RLE:
        raise RadiographError("its run-length encoding is longer than any radiograph's")
    unsigned_bytes = int(dataset.BitsStored) == 8 and not int(dataset.PixelRepresentation)
    # Each scan takes as long as a complete image, so several are decoded under a deadline.
    if syntax == JPEGBaseline8Bit and unsigned_bytes and scans <= 1:
        gray = _decode_gray_jpeg(image, header_size)
        if gray is not None:
            return gray
    return decode_in_subprocess(dataset)


def _decode_native(dataset: Dataset) -> NDArray:
    try:
        # What follows the one frame of the header is padding, whatever its length.
        return pixel_array(dataset, allow_excess_frames=False)
    except Exception as error:
        if not dataset.PixelData.startswith(_ITEM):
            raise
        raise RadiographError(
            "its pixel data is compressed, but its Transfer Syntax UID is missing or wrong; save "
            "it again with its file meta information"
        ) from error


def _palette_bits(dataset: Dataset) -> int:
    """Depth of a palette's colours; some have 8-bit colours in 16-bit entries."""
    tables = [dataset[f"{c}PaletteColorLookupTableData"].value for c in ("Red", "Green", "Blue")]
    entries = dataset.RedPaletteColorLookupTableDescriptor[0] or 2**16
    if len(tables[0]) < 2 * entries:
        return 8
    return 8 if max(int(np.frombuffer(table, "<u2").max()) for table in tables) < 256 else 16


def _check_offset_table(pixel_data: bytes) -> None:
    """The table has one entry a frame, and each becomes an object when it is parsed."""
    if int.from_bytes(pixel_data[4:8], "little") > _MAX_OFFSETS:
        raise RadiographError(
            "the table of offsets before its image is damaged; copy the file again"
        )


def _check_size(image: tuple[int, int] | None, header: tuple[int, int]) -> None:
    if image is not None and image != header:
        raise RadiographError(
            "the DICOM header and the image inside disagree on its size "
            f"({header[0]} x {header[1]} and {image[0]} x {image[1]})"
        )


def _decode_gray_jpeg(content: bytes, size: tuple[int, int]) -> NDArray[np.uint8] | None:
    """The pixels of a JPEG of one channel; None where it has more, whose colour space pydicom
    determines. Through pydicom the same decoder takes twice as long."""
    with jpeg_factory(BytesIO(content)) as image:
        _check_size(image.size, size)
        return np.array(image) if image.mode == "L" else None
