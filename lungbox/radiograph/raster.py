"""PNG and JPEG (and whatever else Pillow opens) to 8-bit gray."""

import warnings
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from lungbox.constants import MAX_PIXELS
from lungbox.radiograph.types import RadiographError

FORMATS = ("PNG", "JPEG")
_WIDE_MODES = ("I", "I;16", "I;16B", "I;16L", "F")


def read_raster(content: bytes) -> NDArray[np.uint8]:
    """Decode a PNG or JPEG, 8 or 16 bit, gray, colour, palette, with or without transparency.

    Args:
        content: the whole file.

    Returns:
        `(H, W)` uint8. Colour becomes its luma (ITU-R 601), transparent pixels black. 16-bit
        images are divided by 257 where they use the upper half of their range, and otherwise
        (12-bit data in a 16-bit file) stretched from their own minimum to their maximum.

    Raises:
        RadiographError: it cannot be decoded.
    """
    try:
        with warnings.catch_warnings():
            # Our own limit below is stated in pixels and gives a sentence.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(BytesIO(content), formats=FORMATS)
        check_pixels(*image.size)
        if getattr(image, "n_frames", 1) > 1:
            raise RadiographError(
                f"it holds {image.n_frames} frames; save the one to read as a file of its own"
            )
        image.load()
    except UnidentifiedImageError:
        raise RadiographError("not an image; give DICOM, PNG or JPEG files") from None
    except Image.DecompressionBombError:
        raise RadiographError(
            f"it has more than {MAX_PIXELS:,} pixels; radiographs have fewer"
        ) from None
    except (OSError, SyntaxError, ValueError) as error:
        raise RadiographError(
            f"the image is damaged or cut off ({error}); copy it again from its source"
        ) from None
    return _to_gray(image)


def raster_size(content: bytes) -> tuple[int, int]:
    """Width and height of a PNG or JPEG from its header alone."""
    try:
        return Image.open(BytesIO(content), formats=FORMATS).size
    except (UnidentifiedImageError, OSError) as error:
        raise RadiographError("not an image; give DICOM, PNG or JPEG files") from error


def check_pixels(width: int, height: int) -> None:
    """Refuse images with no pixels, or more than `MAX_PIXELS`, before they are decoded.

    Raises:
        RadiographError: either.
    """
    if width * height > MAX_PIXELS:
        raise RadiographError(
            f"it has {width} x {height} pixels, more than the {MAX_PIXELS:,} a radiograph may "
            "have; resize it first"
        )
    if width * height == 0:
        raise RadiographError("it has no pixels")


def _to_gray(image: Image.Image) -> NDArray[np.uint8]:
    if image.mode in _WIDE_MODES:
        return _narrow(np.asarray(image))
    if image.mode in ("1", "L"):
        return np.array(image.convert("L"))
    if "transparency" in image.info or "A" in image.getbands():
        opaque = Image.new("RGBA", image.size, "black")
        opaque.alpha_composite(image.convert("RGBA"))
        image = opaque
    return np.array(image.convert("RGB").convert("L"))


def _narrow(values: NDArray) -> NDArray[np.uint8]:
    """16 bits (or Pillow's 32-bit form of them) to 8."""
    values = values.astype(np.float32)
    low, high = float(values.min()), float(values.max())
    if 32768 <= high <= 65535 and low >= 0:
        low, high = 0.0, 65535.0
    if high == low:
        return np.zeros(values.shape, np.uint8)
    return np.round((values - low) * (255 / (high - low))).astype(np.uint8)
