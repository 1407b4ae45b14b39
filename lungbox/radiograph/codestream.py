"""What a compressed image says of itself: its size, and how often its decoder goes over it."""

import re
import struct
from collections.abc import Iterator

from lungbox.radiograph.types import RadiographError

# Start-of-frame markers of JPEG (all processes but the reserved) and JPEG-LS.
_JPEG_FRAMES = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
_JPEG_SCAN = 0xDA  # pixels follow, so no frame header does
_END_OF_IMAGE = 0xD9
_STANDALONE = {0x01, *range(0xD0, 0xD9)}
# Decoders skip rubbish between two segments, and filling.
_MARKER = re.compile(rb"\xff[\x01-\xfe]")
# What ends a scan: any marker but the restarts inside it.
_AFTER_SCAN = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
_MOST_SEGMENTS = 100_000
# A decoder of progressive JPEG goes over all pixels once a scan, whatever the scan holds: twenty
# times for the largest image, of which encoders need ten.
_MOST_PIXELS_IN_SCANS = 2_000_000_000


def codestream_size(content: bytes) -> tuple[int, int] | None:
    """Width and height in a JPEG, JPEG-LS or JPEG 2000 codestream.

    None where it is none of them (RLE), or is cut off before it says.
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
    """Marker and place, behind the marker, of each segment of a JPEG that has a length."""
    found = _MARKER.search(content, 2)
    for _ in range(_MOST_SEGMENTS):
        if found is None or content[found.start() + 1] == _END_OF_IMAGE:
            return
        marker, position = content[found.start() + 1], found.end()
        if marker not in _STANDALONE:
            yield marker, position
            position += struct.unpack_from(">H", content, position)[0]
        after = _AFTER_SCAN if marker == _JPEG_SCAN else _MARKER
        found = after.search(content, position)
    raise RadiographError("its JPEG image has more segments than any radiograph's; save it again")


def check_scans(content: bytes, pixels: int) -> None:
    """Refuse a JPEG of so many scans that decoding it would take minutes.

    Args:
        content: the file, or the image inside a DICOM file.
        pixels: of the image.

    Raises:
        RadiographError: it has too many.
    """
    scans = 0
    try:
        for marker, _ in _segments(content):
            scans += marker == _JPEG_SCAN
    except struct.error:
        pass  # cut off, which its decoder says
    if scans * pixels > _MOST_PIXELS_IN_SCANS:
        raise RadiographError(
            f"its JPEG image has {scans} scans over {pixels:,} pixels; save it as a baseline JPEG"
        )
