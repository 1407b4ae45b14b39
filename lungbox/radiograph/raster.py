"""PNG and JPEG to 8-bit gray."""

import struct
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.JpegImagePlugin import jpeg_factory
from PIL.PngImagePlugin import PngImageFile

from lungbox.radiograph.levels import check_pixels, count, look_up, stretch
from lungbox.radiograph.room import ROOM
from lungbox.radiograph.types import RadiographError

SIGNATURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")
_WIDE_MODES = ("I", "I;16", "I;16B", "I;16L")
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R 601, as Pillow has it
# Below it is what decides the range: a burned-in marker at full scale does not make 12 bits 16.
_TOP = 0.995


def read_raster(path: Path) -> NDArray[np.uint8]:
    """Decode a PNG or JPEG, 8 or 16 bit, gray, colour, palette, with or without transparency.

    Returns:
        `(H, W)` uint8. Colour becomes its luma (ITU-R 601), transparent pixels black. 16-bit
        images are taken at full scale where they use its upper half, and otherwise (12-bit data
        in a 16-bit file) stretched over the range they use.

    Raises:
        RadiographError: it cannot be decoded.
    """
    try:
        with _open(path) as image, ROOM.take(image.width * image.height):
            if _is_wide_colour(path):
                return _read_wide_colour(path)
            frames = getattr(image, "n_frames", 1)
            if frames > 1:
                raise RadiographError(
                    f"it holds {frames} frames; save the one to read as a file of its own"
                )
            return _to_gray(image)
    except (OSError, SyntaxError, ValueError) as error:
        raise RadiographError(
            f"the image is damaged or cut off ({error}); copy it again from its source"
        ) from error


def raster_size(path: Path) -> tuple[int, int]:
    """Width and height of a PNG or JPEG from its header alone.

    Raises:
        RadiographError: it has none.
    """
    with _open(path) as image:
        return image.size


def _open(path: Path) -> Image.Image:
    try:
        content = path.read_bytes()
        # Not `Image.open`, which warns of images that are large but not too large for us, and
        # raises an error of its own where they are larger still.
        open_image = PngImageFile if content.startswith(SIGNATURES[0]) else jpeg_factory
        # Lazy: pixels are decoded only when they are asked for.
        image = open_image(BytesIO(content))
    except (OSError, SyntaxError, ValueError, LookupError, TypeError, struct.error) as error:
        raise RadiographError(
            "it begins like a PNG or JPEG but is damaged; copy it again from its source"
        ) from error
    check_pixels(*image.size)
    return image


def _to_gray(image: Image.Image) -> NDArray[np.uint8]:
    if image.mode in _WIDE_MODES:
        return _narrow(np.asarray(image))
    if image.mode in ("1", "L") and "transparency" not in image.info:
        return np.array(image.convert("L"))
    if "transparency" in image.info or "A" in image.getbands():
        opaque = Image.new("RGBA", image.size, "black")
        opaque.alpha_composite(image.convert("RGBA"))
        image = opaque
    return np.array(image.convert("RGB").convert("L"))


def _is_wide_colour(path: Path) -> bool:
    """A PNG of more than one 16-bit channel, of which Pillow keeps the upper half only."""
    with path.open("rb") as file:
        start = file.read(26)
    return start.startswith(SIGNATURES[0]) and start[24] == 16 and start[25] != 0


def _read_wide_colour(path: Path) -> NDArray[np.uint8]:
    content = np.fromfile(path, np.uint8)
    values = cv2.imdecode(content, cv2.IMREAD_UNCHANGED)
    if values is None:
        raise OSError("its pixels cannot be decoded")
    values = values.astype(np.float32)
    if values.ndim == 2:
        return _narrow(values)
    if values.shape[2] == 2:  # gray and transparency
        return _narrow(values[..., 0] * (values[..., 1] / 65535))
    gray = values[..., 2::-1] @ _LUMA  # OpenCV has blue first
    return _narrow(gray * (values[..., 3] / 65535) if values.shape[2] == 4 else gray)


def _narrow(values: NDArray) -> NDArray[np.uint8]:
    """16 bits (or Pillow's 32-bit form of them) to 8."""
    if not np.issubdtype(values.dtype, np.integer):
        return _to_bytes(values, np.quantile(values, _TOP), None)
    low = int(values.min())
    ramp = np.arange(low, int(values.max()) + 1)
    counts = count(values, low, ramp.size)
    top = ramp[np.searchsorted(np.cumsum(counts), _TOP * values.size)]
    return look_up(_to_bytes(ramp, top, counts), values, low)


def _to_bytes(values: NDArray, top: float, counts: NDArray | None) -> NDArray[np.uint8]:
    shares = values / 65535 if top >= 32768 else stretch(values, counts)
    return np.round(np.clip(shares, 0, 1) * 255).astype(np.uint8)
