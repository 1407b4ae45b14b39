"""Limits and gray levels that DICOM, PNG and JPEG share."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from lungbox.constants import MAX_ASPECT, MAX_DECODING_BYTES, MAX_PIXELS
from lungbox.radiograph.types import RadiographError

# A burned-in marker or a dead pixel must not decide how much contrast the lungs get.
_TAIL = 0.005


def check_pixels(width: int, height: int) -> None:
    """Refuse sizes that no radiograph has, before anything is decoded.

    Raises:
        RadiographError: no pixels, more than `MAX_PIXELS`, or sides beyond 1 to `MAX_ASPECT`.
    """
    if width * height > MAX_PIXELS:
        raise RadiographError(
            f"it has {width} x {height} pixels, more than the {MAX_PIXELS:,} a radiograph may "
            "have; resize it first"
        )
    if width * height == 0:
        raise RadiographError("it has no pixels")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise RadiographError(
            f"it has {width} x {height} pixels; one side of a radiograph is at most {MAX_ASPECT} "
            "times as long as the other"
        )


def check_decoding(needed: int) -> None:
    """Refuse an image whose decoding takes more than `MAX_DECODING_BYTES`.

    Args:
        needed: bytes of memory at its peak.

    Raises:
        RadiographError: it is too large.
    """
    if needed > MAX_DECODING_BYTES:
        raise RadiographError(
            f"decoding it takes {needed / 1e9:.1f} GB of memory, more than the "
            f"{MAX_DECODING_BYTES / 1e9:.1f} a radiograph may take; save it as 8-bit gray, or "
            "resize it first"
        )


def count(
    values: NDArray, low: int, size: int, without: NDArray[np.bool_] | None = None
) -> NDArray[np.int64]:
    """How often each of `low`, `low + 1`, ... occurs.

    Args:
        values: `(H, W)` whole numbers, none below `low` nor as large as `low + size`.
        low: the least.
        size: how many numbers are counted.
        without: `(H, W)`, pixels that are left out.
    """
    counts = np.zeros(size, np.int64)
    for rows in parts(values.shape):
        part = values[rows] if without is None else values[rows][~without[rows]]
        counts += np.bincount((part.astype(np.int64) - low).ravel(), minlength=size)
    return counts


def look_up(table: NDArray[np.uint8], values: NDArray, low: int) -> NDArray[np.uint8]:
    """`(H, W)` whole numbers to the table's entries, of which the first is that of `low`."""
    if values.dtype == np.uint8 and (table == np.arange(low, low + table.size)).all():
        return values
    found = np.empty(values.shape, np.uint8)
    for rows in parts(values.shape):
        found[rows] = table[values[rows].astype(np.int64) - low]
    return found


def parts(shape: tuple[int, ...]) -> Iterator[slice]:
    """Rows of about a million pixels of a `(H, W)` image, for what takes many bytes a pixel."""
    step = max(1, 2**20 // shape[1])
    return (slice(start, start + step) for start in range(0, shape[0], step))


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
