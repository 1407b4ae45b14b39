"""PNG, JPEG and arrays to 8-bit gray."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.JpegImagePlugin import jpeg_factory
from PIL.PngImagePlugin import PngImageFile

from lungbox.radiograph.codecs.codestream import check_scans
from lungbox.radiograph.grayscale import LUMA, count, look_up, row_blocks, stretch_contrast
from lungbox.radiograph.limits import (
    PIXEL_BUDGET,
    BoundedReader,
    check_decoding,
    check_pixels,
    open_source,
)
from lungbox.radiograph.types import RadiographError, short_message

SIGNATURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")
_WIDE_MODES = ("I", "I;16", "I;16B", "I;16L")
# Below this share of pixels is what decides the range: a burned-in marker at full scale does not
# make 12 bits 16.
_TOP = 0.995
# Profiles, previews and the like before the pixels. Pillow joins what comes in several segments,
# copying everything before each time.
_MAX_HEADER = 2**24
# Bytes of memory a pixel takes while it is decoded and becomes gray. A progressive JPEG is kept as
# coefficients until its last scan, two bytes for each channel.
_MEMORY, _MEMORY_WIDE_COLOUR, _MEMORY_COEFFICIENT = 7, 16, 2


def read_raster(source: Path | bytes) -> NDArray[np.uint8]:
    """Decode a PNG or JPEG, 8 or 16 bit, gray, colour, palette, with or without transparency.

    Returns:
        `(H, W)` uint8. Colour becomes its luma (ITU-R 601), transparent pixels black. 16-bit
        images are taken at full scale where they use its upper half, and otherwise (12-bit data
        in a 16-bit file) stretched over the range they use.

    Raises:
        RadiographError: it cannot be decoded, or is larger than a radiograph may be.
    """
    with open_source(source) as file, _open(file) as image:
        wide_colour = _is_wide_colour(file)
        memory = _decoding_bytes(image, wide_colour)
        check_decoding(memory)
        frames = getattr(image, "n_frames", 1)
        if frames > 1:
            raise RadiographError(
                f"it holds {frames} frames; save the one to read as a file of its own"
            )
        try:
            with PIXEL_BUDGET.reserve(memory):
                if isinstance(image, PngImageFile):
                    return _read_wide_colour(file) if wide_colour else _image_to_gray(image)
                check_scans(_content(file), image.width * image.height)
                return _image_to_gray(image)
        except (RadiographError, MemoryError):
            raise
        except Exception as error:  # decoders raise whatever they like on damaged data
            raise RadiographError(
                f"the image is damaged or cut off ({short_message(error)}); copy it again from its "
                "source"
            ) from error


def raster_size(source: Path | bytes) -> tuple[int, int]:
    """Width and height of a PNG or JPEG from its header alone.

    Raises:
        RadiographError: it has none.
    """
    with open_source(source) as file, _open(file) as image:
        return image.size


def array_to_gray(values: NDArray) -> NDArray[np.uint8]:
    """Gray of an array, as a PNG of the same values would give it.

    Args:
        values: `(H, W)` or `(H, W, C)` uint8 or uint16: gray, gray and alpha, RGB or RGBA.

    Returns:
        `(H, W)` uint8, which shares no memory with `values`.

    Raises:
        RadiographError: it has another shape or type, or is larger than a radiograph may be.
    """
    width, height = array_size(values)
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[..., 0]
    wide = values.dtype.itemsize == 2
    memory = width * height * (_MEMORY_WIDE_COLOUR if wide and values.ndim == 3 else _MEMORY)
    check_decoding(memory)
    with PIXEL_BUDGET.reserve(memory):
        if not wide:
            return _image_to_gray(Image.fromarray(np.asarray(values)))
        values = values.astype(np.uint16)  # in this machine's byte order
        return _narrow(values) if values.ndim == 2 else _wide_colour_to_gray(values, slice(0, 3))


def array_size(values: NDArray) -> tuple[int, int]:
    """Width and height of an array that can be a radiograph.

    Raises:
        RadiographError: it cannot.
    """
    if values.dtype.kind != "u" or values.dtype.itemsize > 2:
        raise RadiographError(f"it is an array of {values.dtype}; convert it to uint8 or uint16")
    if values.ndim not in (2, 3) or (values.ndim == 3 and not 1 <= values.shape[2] <= 4):
        raise RadiographError(
            f"it is an array of shape {values.shape}; give (H, W), or (H, W, C) of 1 to 4 channels"
        )
    height, width = values.shape[:2]
    check_pixels(width, height)
    return width, height


@contextmanager
def _open(file: BinaryIO) -> Iterator[Image.Image]:
    """The image in a file; its pixels are decoded only when they are used."""
    start = file.read(len(SIGNATURES[0]))
    # Not `Image.open`, which warns of images that are large but not too large for us, and
    # raises an error of its own where they are larger still.
    open_image: Callable = PngImageFile if start == SIGNATURES[0] else jpeg_factory
    bounded = BoundedReader(file, _MAX_HEADER)
    try:
        image = open_image(bounded)
    except (RadiographError, MemoryError):
        raise
    except Exception as error:  # Pillow raises whatever it likes on damaged data
        raise RadiographError(
            "it begins like a PNG or JPEG but is damaged; copy it again from its source"
        ) from error
    bounded.start_pixels()
    with image:
        check_pixels(*image.size)
        yield image


def _decoding_bytes(image: Image.Image, wide_colour: bool) -> int:
    per_pixel = _MEMORY_WIDE_COLOUR if wide_colour else _MEMORY
    if "progressive" in image.info:
        per_pixel += _MEMORY_COEFFICIENT * len(image.getbands())
    return image.width * image.height * per_pixel


def _content(file: BinaryIO) -> bytes:
    file.seek(0)
    return file.read()


def _image_to_gray(image: Image.Image) -> NDArray[np.uint8]:
    if image.mode in _WIDE_MODES:
        return _narrow(np.asarray(image))
    transparent = "transparency" in image.info or "A" in image.getbands()
    if image.mode in ("1", "L") and not transparent:
        return np.array(image.convert("L"))
    gray = np.empty((image.height, image.width), np.uint8)
    image.load()
    for rows in row_blocks(gray.shape):
        # Block by block: each intermediate form has four bytes a pixel.
        block = image.crop((0, rows.start, image.width, min(rows.stop, image.height)))
        if transparent:
            opaque = Image.new("RGBA", block.size, "black")
            opaque.alpha_composite(block.convert("RGBA"))
            block = opaque
        gray[rows] = np.asarray(block.convert("RGB").convert("L"))
    return gray


def _is_wide_colour(file: BinaryIO) -> bool:
    """A PNG of more than one 16-bit channel, of which Pillow keeps the upper half only."""
    position = file.tell()
    file.seek(0)
    start = file.read(26)
    file.seek(position)
    return start.startswith(SIGNATURES[0]) and start[24] == 16 and start[25] != 0


def _read_wide_colour(file: BinaryIO) -> NDArray[np.uint8]:
    values = cv2.imdecode(np.frombuffer(_content(file), np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None:
        raise OSError("its pixels cannot be decoded")
    if values.ndim == 2:
        return _narrow(values)
    return _wide_colour_to_gray(values, slice(2, None, -1))  # OpenCV has blue first


def _wide_colour_to_gray(values: NDArray[np.uint16], rgb: slice) -> NDArray[np.uint8]:
    """`(H, W, C)`, two channels being gray and alpha, three or four having red to blue at `rgb`."""
    gray = np.empty(values.shape[:2], np.uint16)
    for rows in row_blocks(gray.shape):
        block = values[rows].astype(np.float32)
        light = block[..., 0] if block.shape[2] == 2 else block[..., rgb] @ LUMA
        if block.shape[2] != 3:
            light = light * (block[..., -1] / 65535)
        gray[rows] = np.round(light)
    return _narrow(gray)


def _narrow(values: NDArray) -> NDArray[np.uint8]:
    """16 bits (or Pillow's 32-bit form of them) to 8."""
    low = int(values.min())
    ramp = np.arange(low, int(values.max()) + 1)
    counts = count(values, low, ramp.size)
    top = ramp[np.searchsorted(np.cumsum(counts), _TOP * values.size)]
    levels = ramp / 65535 if top >= 32768 else stretch_contrast(ramp, counts)
    return look_up(np.round(np.clip(levels, 0, 1) * 255).astype(np.uint8), values, low)
