"""Limits and gray levels that DICOM, PNG and JPEG share."""

import numpy as np
from numpy.typing import NDArray

from lungbox.constants import MAX_PIXELS
from lungbox.radiograph.types import RadiographError

# A burned-in marker or a dead pixel must not decide how much contrast the lungs get.
_TAIL = 0.005


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


def stretch(values: NDArray, counts: NDArray | None = None) -> NDArray[np.float64]:
    """Values of unknown range to shares of it, 0 at their 0.5th and 1 at their 99.5th percentile.

    Args:
        values: any shape; where `counts` is given, sorted and without doubles.
        counts: how often each of them occurs; once where None.

    Returns:
        Shares in 0-1 of the same shape; all 0 where there is one value only.
    """
    values = np.asarray(values, np.float64)
    if counts is None:
        low, high = np.quantile(values, [_TAIL, 1 - _TAIL])
    else:
        order = values.argsort()
        cumulated = np.cumsum(counts[order])
        ends = np.searchsorted(cumulated, [_TAIL * cumulated[-1], (1 - _TAIL) * cumulated[-1]])
        low, high = values[order][np.minimum(ends, values.size - 1)]
    if high <= low:
        low, high = float(values.min()), float(values.max())
    if high <= low:
        return np.zeros(values.shape)
    return np.clip((values - low) / (high - low), 0, 1)
