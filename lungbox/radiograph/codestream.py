"""The size a compressed image says it has, read from its own first bytes."""

import struct

# Start-of-frame markers of JPEG (all processes but the reserved) and JPEG-LS.
_JPEG_FRAMES = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
_JPEG_SCAN = 0xDA  # pixels follow, so no frame header does
_STANDALONE = {0x01, *range(0xD0, 0xD9)}


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
    position = 2
    while True:
        if content[position] != 0xFF or content[position + 1] == 0xFF:
            position += 1  # rubbish between two segments, or filling, which decoders skip
            continue
        marker = content[position + 1]
        if marker in _JPEG_FRAMES:
            height, width = struct.unpack_from(">HH", content, position + 5)
            return width, height
        if marker in _STANDALONE:
            position += 2
            continue
        if marker == _JPEG_SCAN:
            return None
        position += 2 + struct.unpack_from(">H", content, position + 2)[0]
