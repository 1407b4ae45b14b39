"""PNG and JPEG to 8-bit gray."""

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

from lungbox.radiograph.codestream import check_scans
from lungbox.radiograph.levels import check_decoding, check_pixels, count, look_up, parts, stretch
from lungbox.radiograph.opening import Bounded, open_file
from lungbox.radiograph.room import ROOM
from lungbox.radiograph.types import RadiographError, brief

SIGNATURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")
_WIDE_MODES = ("I", "I;16", "I;16B", "I;16L")
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R 601, as Pillow has it
# Below it is what decides the range: a burned-in marker at full scale does not make 12 bits 16.
_TOP = 0.995
# Profiles, previews and the like before the pixels. Pillow joins what comes in several segments,
# copying all before each time.
_LARGEST_HEADER = 2**24
# Bytes of memory a pixel takes while it is decoded and becomes gray. A progressive JPEG is kept as
# coefficients until its last scan, two bytes for each channel.
_MEMORY, _MEMORY_WIDE_COLOUR, _A_COEFFICIENT = 7, 16, 2


def read_raster(path: Path) -> NDArray[np.uint8]:
    """Decode a PNG or JPEG, 8 or 16 bit, gray, colour, palette, with or without transparency.

    Returns:
        `(H, W)` uint8. Colour becomes its luma (ITU-R 601), transparent pixels black. 16-bit
        images are taken at full scale where they use its upper half, and otherwise (12-bit data
        in a 16-bit file) stretched over the range they use.

    Raises:
        RadiographError: it cannot be decoded, or is larger than a radiograph may be.
    """
    with open_file(path) as file, _open(file) as image:
        wide_colour = _is_wide_colour(file)
        needed = _decoding_bytes(image, wide_colour)
        check_decoding(needed)
        frames = getattr(image, "n_frames", 1)
        if frames > 1:
            raise RadiographError(
                f"it holds {frames} frames; save the one to read as a file of its own"
            )
        try:
            with ROOM.take(needed):
                if isinstance(image, PngImageFile):
                    return _read_wide_colour(file) if wide_colour else _to_gray(image)
                check_scans(_whole(file), image.width * image.height)
                return _to_gray(image)
        except (RadiographError, MemoryError):
            raise
        except Exception as error:  # decoders raise whatever they like on damaged data
            raise RadiographError(
                f"the image is damaged or cut off ({brief(error)}); copy it again from its source"
            ) from error


def raster_size(path: Path) -> tuple[int, int]:
    """Width and height of a PNG or JPEG from its header alone.

    Raises:
        RadiographError: it has none.
    """
    with open_file(path) as file, _open(file) as image:
        return image.size


@contextmanager
def _open(file: BinaryIO) -> Iterator[Image.Image]:
    """The image in a file; its pixels are decoded only when they are asked for."""
    start = file.read(len(SIGNATURES[0]))
    # Not `Image.open`, which warns of images that are large but not too large for us, and
    # raises an error of its own where they are larger still.
    open_image: Callable = PngImageFile if start == SIGNATURES[0] else jpeg_factory
    bounded = Bounded(file, _LARGEST_HEADER)
    try:
        image = open_image(bounded)
    except (RadiographError, MemoryError):
        raise
    except Exception as error:  # Pillow raises whatever it likes on damaged data
        raise RadiographError(
            "it begins like a PNG or JPEG but is damaged; copy it again from its source"
        ) from error
    bounded.header_ends()
    with image:
        check_pixels(*image.size)
        yield image


def _decoding_bytes(image: Image.Image, wide_colour: bool) -> int:
    a_pixel = _MEMORY_WIDE_COLOUR if wide_colour else _MEMORY
    if "progressive" in image.info:
        a_pixel += _A_COEFFICIENT * len(image.getbands())
    return image.width * image.height * a_pixel


def _whole(file: BinaryIO) -> bytes:
    file.seek(0)
    return file.read()


def _to_gray(image: Image.Image) -> NDArray[np.uint8]:
    if image.mode in _WIDE_MODES:
        return _narrow(np.asarray(image))
    transparent = "transparency" in image.info or "A" in image.getbands()
    if image.mode in ("1", "L") and not transparent:
        return np.array(image.convert("L"))
    gray = np.empty((image.height, image.width), np.uint8)
    image.load()
    for rows in parts(gray.shape):
        # A part at a time: each form it takes on the way has four bytes a pixel.
        part = image.crop((0, rows.start, image.width, min(rows.stop, image.height)))
        if transparent:
            opaque = Image.new("RGBA", part.size, "black")
            opaque.alpha_composite(part.convert("RGBA"))
            part = opaque
        gray[rows] = np.asarray(part.convert("RGB").convert("L"))
    return gray


def _is_wide_colour(file: BinaryIO) -> bool:
    """A PNG of more than one 16-bit channel, of which Pillow keeps the upper half only."""
    place = file.tell()
    file.seek(0)
    start = file.read(26)
    file.seek(place)
    return start.startswith(SIGNATURES[0]) and start[24] == 16 and start[25] != 0


def _read_wide_colour(file: BinaryIO) -> NDArray[np.uint8]:
    values = cv2.imdecode(np.frombuffer(_whole(file), np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None:
        raise OSError("its pixels cannot be decoded")
    if values.ndim == 2:
        return _narrow(values)
    gray = np.empty(values.shape[:2], np.uint16)
    for rows in parts(gray.shape):
        part = values[rows].astype(np.float32)
        # OpenCV has blue first; two channels are gray and transparency.
        light = part[..., 0] if part.shape[2] == 2 else part[..., 2::-1] @ _LUMA
        if part.shape[2] != 3:
            light = light * (part[..., -1] / 65535)
        gray[rows] = np.round(light)
    return _narrow(gray)


def _narrow(values: NDArray) -> NDArray[np.uint8]:
    """16 bits (or Pillow's 32-bit form of them) to 8."""
    low = int(values.min())
    ramp = np.arange(low, int(values.max()) + 1)
    counts = count(values, low, ramp.size)
    top = ramp[np.searchsorted(np.cumsum(counts), _TOP * values.size)]
    return look_up(_to_bytes(ramp, top, counts), values, low)


def _to_bytes(values: NDArray, top: float, counts: NDArray) -> NDArray[np.uint8]:
    shares = values / 65535 if top >= 32768 else stretch(values, counts)
    return np.round(np.clip(shares, 0, 1) * 255).astype(np.uint8)
