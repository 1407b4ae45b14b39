"""The header of a compressed image: its size, and how many scans its decoder makes over it."""

import re
import struct
from collections.abc import Iterator
from contextlib import suppress

from lungbox.radiograph.types import RadiographError

# Start-of-frame markers of JPEG (all processes but the reserved) and JPEG-LS.
_JPEG_FRAMES = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
_JPEG_SCAN = 0xDA  # pixels follow, so no frame header does
_END_OF_IMAGE = 0xD9
_STANDALONE = {0x01, *range(0xD0, 0xD9)}
# Decoders skip garbage and fill bytes between two segments.
_MARKER = re.compile(rb"\xff[\x01-\xfe]")
# What ends a scan: any marker but the restarts inside it.
_AFTER_SCAN = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
_MAX_SEGMENTS = 100_000
# A decoder of progressive JPEG goes over all pixels once a scan, whatever the scan holds. That is
# 20 scans of the largest image; encoders need ten.
_MAX_SCANNED_PIXELS = 2_000_000_000


def codestream_size(content: bytes) -> tuple[int, int] | None:
    """Width and height in a JPEG, JPEG-LS or JPEG 2000 codestream.

    None where it is none of them (RLE), or is cut off before its size.
    """
    try:
        if content[:2] == b"\xff\xd8":
            return _jpeg(content)
        if (start := content[:4096].find(b"\xff\x4f\xff\x51")) >= 0:
            right, bottom, left, top = struct.unpack_from(">4I", content, start + 8)
            return right - left, bottom - top
    except (struct.error, IndexError):
        pass
    return None


def _jpeg(content: bytes) -> tuple[int, int] | None:
    for marker, position in _segments(content):
        if marker in _JPEG_FRAMES:
            height, width = struct.unpack_from(">HH", content, position + 3)
            return width, height
        if marker == _JPEG_SCAN:
            return None
    return None


def _segments(content: bytes) -> Iterator[tuple[int, int]]:
    """Marker, and position behind the marker, of each segment of a JPEG that has a length."""
    found = _MARKER.search(content, 2)
    for _ in range(_MAX_SEGMENTS):
        if found is None or content[found.start() + 1] == _END_OF_IMAGE:
            return
        marker, position = content[found.start() + 1], found.end()
        if marker not in _STANDALONE:
            yield marker, position
            position += struct.unpack_from(">H", content, position)[0]
        after = _AFTER_SCAN if marker == _JPEG_SCAN else _MARKER
        found = after.search(content, position)
    raise RadiographError("its JPEG image has more segments than any radiograph's; save it again")


def check_scans(content: bytes, pixels: int) -> int:
    """Count the scans of a JPEG; refuse so many that decoding it would take minutes.

    Args:
        content: the file, or the image inside a DICOM file.
        pixels: of the image.

    Returns:
        Number of scans, up to where it is cut off.

    Raises:
        RadiographError: it has too many.
    """
    scans = 0
    with suppress(struct.error):  # cut off, which its decoder reports
        for marker, _ in _segments(content):
            scans += marker == _JPEG_SCAN
    if scans * pixels > _MAX_SCANNED_PIXELS:
        raise RadiographError(
            f"its JPEG image has {scans} scans over {pixels:,} pixels; save it as a baseline JPEG"
        )
    return scans
