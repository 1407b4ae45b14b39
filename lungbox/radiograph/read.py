"""One file to a `Radiograph`, by its content and never by its ending."""

from pathlib import Path

from lungbox.radiograph.raster import raster_size, read_raster
from lungbox.radiograph.types import Radiograph, RadiographError

_RASTER_SIGNATURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")


def read(path: Path) -> Radiograph:
    """Read one DICOM, PNG or JPEG file.

    Raises:
        RadiographError: it cannot be read as a radiograph; the message says why.
    """
    content = _content(path)
    if content.startswith(_RASTER_SIGNATURES):
        return Radiograph(read_raster(content), path)
    raise NotImplementedError


def size(path: Path) -> tuple[int, int]:
    """Width and height in pixels, from the header alone.

    Raises:
        RadiographError: it cannot be read as a radiograph.
    """
    content = _content(path)
    if content.startswith(_RASTER_SIGNATURES):
        return raster_size(content)
    raise NotImplementedError


def _content(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RadiographError(f"it cannot be opened ({error.strerror})") from error
    if not content:
        raise RadiographError("the file is empty; copy it again from its source")
    return content
