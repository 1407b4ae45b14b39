"""The entry point of reading: a file, its content, a DICOM dataset or an array to a `Radiograph`.

A file's format is known from its content and never from its ending.
"""

import os
from pathlib import Path
from typing import BinaryIO, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from lungbox.radiograph.dicom import read_pixels
from lungbox.radiograph.header import (
    decoding_bytes,
    is_dicom,
    naming_damage,
    read_before_pixels,
    read_header,
)
from lungbox.radiograph.limits import PIXEL_BUDGET, open_source, read_file_object
from lungbox.radiograph.metadata import header_metadata, not_frontal_chest, source_metadata
from lungbox.radiograph.raster import (
    SIGNATURES,
    array_size,
    array_to_gray,
    raster_size,
    read_raster,
)
from lungbox.radiograph.types import HeaderMetadata, Radiograph, RadiographError

RadiographSource: TypeAlias = str | os.PathLike[str] | bytes | BinaryIO | Dataset | NDArray
# What may be DICOM; the first two may be PNG or JPEG as well.
_Dicom: TypeAlias = Path | bytes | Dataset


def read(source: RadiographSource) -> Radiograph:
    """Read one radiograph: DICOM, PNG or JPEG, or pixels in memory.

    Example:
        >>> pixels = np.arange(4 * 6, dtype=np.uint8).reshape(4, 6)
        >>> read(pixels).size
        (6, 4)
        >>> from io import BytesIO
        >>> from PIL import Image
        >>> file = BytesIO()
        >>> Image.fromarray(pixels).save(file, "PNG")
        >>> bool((read(file.getvalue()).pixels == pixels).all())
        True

    Args:
        source: one of

            - the path of a file;
            - a file's content as bytes, or a binary file object, which is read from its position
              to its end, not closed, and put back to its position if it is seekable;
            - a pydicom `Dataset`, which is left as it is. Without file meta information its pixel
              data is taken to be uncompressed;
            - an array, `(H, W)` or `(H, W, C)`, uint8 or uint16, air dark: gray, gray and alpha,
              RGB or RGBA. It is read as a PNG file of the same values is.

    Returns:
        The radiograph; its `path` is None where `source` is not a path.

    Raises:
        RadiographError: it cannot be read as a radiograph; the message says why.
        TypeError: `source` is something else.
    """
    try:
        return _read(_content(source))
    except MemoryError as error:
        raise RadiographError("there is not enough memory to decode it") from error


def size(source: RadiographSource) -> tuple[int, int]:
    """Width and height in pixels, from the header alone.

    Example:
        >>> size(np.zeros((2500, 2048), np.uint16))
        (2048, 2500)

    Args:
        source: see `read`.

    Raises:
        RadiographError: it cannot be read as a radiograph.
    """
    content = _content(source)
    if (raster := _raster_size(content)) is not None:
        return raster
    header = read_header(cast(_Dicom, content))
    return int(header.Columns), int(header.Rows)


def read_metadata(source: RadiographSource) -> HeaderMetadata:
    """The size, and a DICOM header's view and patient, without reading the pixels.

    Example:
        >>> read_metadata(np.zeros((2500, 2048), np.uint16)).size
        (2048, 2500)

    Args:
        source: see `read`.

    Raises:
        RadiographError: it is not a radiograph, or its header is damaged.
    """
    content = _content(source)
    if (raster := _raster_size(content)) is not None:
        return HeaderMetadata(raster)
    header = read_before_pixels(cast(_Dicom, content))
    with naming_damage():
        return header_metadata(header)


def _read(content: _Dicom | NDArray) -> Radiograph:
    if isinstance(content, np.ndarray):
        return Radiograph(array_to_gray(content))
    path = content if isinstance(content, Path) else None
    if not isinstance(content, Dataset) and _is_raster(content):
        return Radiograph(read_raster(content), path)
    header = read_header(content)
    with PIXEL_BUDGET.reserve(decoding_bytes(header)):
        pixels = read_pixels(header)
    with naming_damage():
        return Radiograph(pixels, path, not_frontal_chest(header), source_metadata(header))


def _raster_size(content: _Dicom | NDArray) -> tuple[int, int] | None:
    """Width and height of an array, PNG or JPEG; None for DICOM."""
    if isinstance(content, np.ndarray):
        return array_size(content)
    if not isinstance(content, Dataset) and _is_raster(content):
        return raster_size(content)
    return None


def _content(source: RadiographSource) -> _Dicom | NDArray:
    if isinstance(source, Dataset | np.ndarray):
        return source
    if isinstance(source, str | os.PathLike):
        return Path(source)
    if isinstance(source, bytes | bytearray | memoryview):
        return bytes(source)
    if hasattr(source, "read"):
        return read_file_object(cast(BinaryIO, source))
    raise TypeError(
        "a radiograph is read from a path, bytes, a binary file object, a pydicom Dataset or a "
        f"numpy array, not from {type(source).__name__}"
    )


def _is_raster(content: Path | bytes) -> bool:
    """Whether it is PNG or JPEG; otherwise it is DICOM."""
    with open_source(content) as file:
        start = file.read(132)
    if not start:
        raise RadiographError("the file is empty; copy it again from its source")
    if start.startswith(SIGNATURES):
        return True
    if is_dicom(start):
        return False
    raise RadiographError("not a radiograph: its content is neither DICOM, PNG nor JPEG")
