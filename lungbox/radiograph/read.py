"""One file to a `Radiograph`, by its content and never by its ending."""

from pathlib import Path

from lungbox.radiograph.dicom import read_pixels
from lungbox.radiograph.facts import Facts, facts_of
from lungbox.radiograph.flags import not_frontal_chest
from lungbox.radiograph.header import (
    decoding_bytes,
    is_dicom,
    read_before_pixels,
    read_header,
)
from lungbox.radiograph.opening import open_file
from lungbox.radiograph.raster import SIGNATURES, raster_size, read_raster
from lungbox.radiograph.room import ROOM
from lungbox.radiograph.types import Radiograph, RadiographError, brief


def read(path: Path) -> Radiograph:
    """Read one DICOM, PNG or JPEG file.

    Raises:
        RadiographError: it cannot be read as a radiograph; the message says why.
    """
    try:
        return _read(path)
    except MemoryError as error:
        raise RadiographError("there is not enough memory to decode it") from error


def _read(path: Path) -> Radiograph:
    if _kind(path) == "raster":
        return Radiograph(read_raster(path), path)
    header = read_header(path)
    with ROOM.take(decoding_bytes(header)):
        pixels = read_pixels(header, path)
    try:
        return Radiograph(pixels, path, not_frontal_chest(header))
    except Exception as error:  # elements are parsed when they are asked for
        raise RadiographError(f"the DICOM header is damaged ({brief(error)})") from error


def size(path: Path) -> tuple[int, int]:
    """Width and height in pixels, from the header alone.

    Raises:
        RadiographError: it cannot be read as a radiograph.
    """
    if _kind(path) == "raster":
        return raster_size(path)
    header = read_header(path)
    return int(header.Columns), int(header.Rows)


def facts(path: Path) -> Facts:
    """The size and what the header says of the patient, read without the pixels.

    Raises:
        RadiographError: it is no radiograph, or its header is damaged.
    """
    if _kind(path) == "raster":
        return Facts(raster_size(path))
    header = read_before_pixels(path)
    try:
        return facts_of(header)
    except Exception as error:  # elements are parsed when they are asked for
        raise RadiographError(f"the DICOM header is damaged ({brief(error)})") from error


def _kind(path: Path) -> str:
    with open_file(path) as file:
        start = file.read(132)
    if not start:
        raise RadiographError("the file is empty; copy it again from its source")
    if start.startswith(SIGNATURES):
        return "raster"
    if is_dicom(start):
        return "dicom"
    raise RadiographError("not a radiograph: its content is neither DICOM, PNG nor JPEG")
