"""DICOM to 8-bit gray, as a viewer would show it.

Stored values go through the modality LUT, then the VOI LUT or window, then MONOCHROME1 is
inverted (DICOM PS3.4, N.2). All of it is a function of the stored value alone, so it is worked
out once for each value that occurs and then looked up.
"""

from io import BytesIO
from pathlib import Path

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

from lungbox.radiograph.codestream import check_scans, codestream_size
from lungbox.radiograph.decoder import decode_apart
from lungbox.radiograph.grayscale import render
from lungbox.radiograph.levels import parts
from lungbox.radiograph.types import RadiographError, brief

# Where an image ends too early for its last marker, libjpeg makes up the rest, and CharLS computes
# for seconds before it says so.
_ENDING_IN_EOI = (
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
)
# Compressed data never holds these two bytes.
_SOS, _EOI = b"\xff\xda", b"\xff\xd9"
# Longer than any radiograph's run lengths, each of which takes a step of Python.
_LONGEST_RLE = 2**26
_LONGEST_OFFSETS = 2**16
# ITU-R 601, as Pillow converts colour to gray.
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def read_pixels(dataset: Dataset, path: Path) -> NDArray[np.uint8]:
    """Decode the pixels of `dataset`, read from `path`, and map them to gray.

    Returns:
        `(Rows, Columns)` uint8, air dark, padding black.

    Raises:
        RadiographError: the pixel data is damaged or in an unsupported transfer syntax.
    """
    try:
        values = _decode(dataset, path)
        if "SegmentedRedPaletteColorLookupTableData" in dataset:
            # A kilobyte of it can stand for hundreds of millions of entries.
            raise RadiographError("its colours are a segmented table; save it as 8-bit gray")
        if dataset.PhotometricInterpretation == "PALETTE COLOR":
            values = apply_color_lut(values, dataset)
            return _luma(values, 8 * values.dtype.itemsize)
        if values.ndim == 3:
            return _luma(values, int(dataset.BitsStored))
        return render(values, dataset)
    except (RadiographError, MemoryError):
        raise
    except Exception as error:  # decoders raise whatever they like on damaged data
        raise RadiographError(_undecodable(dataset, error)) from error


def _decode(dataset: Dataset, path: Path) -> NDArray:
    syntax = dataset.file_meta.TransferSyntaxUID
    if not syntax.is_encapsulated:
        # What follows the one frame that the header speaks of is padding, whatever its length.
        return pixel_array(dataset, allow_excess_frames=False)
    # A decoder believes the image, not the header: an image of another size would take any
    # amount of memory before anybody noticed.
    _check_fragments(dataset.PixelData)
    image = get_frame(dataset.PixelData, 0, number_of_frames=1)
    header = (int(dataset.Columns), int(dataset.Rows))
    _check_size(codestream_size(image), header)
    if syntax in _ENDING_IN_EOI and image.rfind(_EOI) <= image.rfind(_SOS):
        raise RadiographError("the image inside is cut off; copy the file again")
    if syntax in (JPEGBaseline8Bit, JPEGExtended12Bit):
        check_scans(image, header[0] * header[1])
    if syntax == RLELossless and len(image) > _LONGEST_RLE:
        raise RadiographError("its run-length encoding is longer than any radiograph's")
    plain = int(dataset.BitsStored) == 8 and not int(dataset.PixelRepresentation)
    # Each scan takes as long as a whole image, so those of several are decoded under a deadline.
    if syntax == JPEGBaseline8Bit and plain and image.count(_SOS) <= 1:
        gray = _gray_jpeg(image, header)
        if gray is not None:
            return gray
    samples = int(dataset.SamplesPerPixel)
    shape = (header[1], header[0])
    return decode_apart(path, shape if samples == 1 else (*shape, samples))


def _check_fragments(pixel_data: bytes) -> None:
    """The table of offsets has one entry a frame, and each becomes an object when it is parsed."""
    if int.from_bytes(pixel_data[4:8], "little") > _LONGEST_OFFSETS:
        raise RadiographError(
            "the table of offsets before its image is damaged; copy the file again"
        )


def _check_size(inside: tuple[int, int] | None, header: tuple[int, int]) -> None:
    if inside is not None and inside != header:
        raise RadiographError(
            "the DICOM header and the image inside disagree on its size "
            f"({header[0]} x {header[1]} and {inside[0]} x {inside[1]})"
        )


def _gray_jpeg(content: bytes, size: tuple[int, int]) -> NDArray[np.uint8] | None:
    """The pixels of a JPEG of one channel; None where it has more, whose colours are pydicom's to
    know. By way of pydicom the same decoder takes twice as long."""
    with jpeg_factory(BytesIO(content)) as image:
        _check_size(image.size, size)
        return np.array(image) if image.mode == "L" else None


def _luma(colour: NDArray, bits: int) -> NDArray[np.uint8]:
    """`(H, W, 3)` RGB of `bits` bits to gray. pydicom has converted YBR already."""
    gray = np.empty(colour.shape[:2], np.uint8)
    for rows in parts(gray.shape):
        light = colour[rows].astype(np.float32) @ _LUMA * (255 / (2**bits - 1))
        gray[rows] = np.round(np.clip(light, 0, 255))
    return gray


def _undecodable(dataset: Dataset, error: Exception) -> str:
    syntax = dataset.file_meta.TransferSyntaxUID
    return (
        f"the pixel data cannot be decoded ({brief(error)}); it is cut off, damaged or in an "
        f"unsupported form ({syntax.name})"
    )
