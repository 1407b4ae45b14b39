"""Stored values to 8-bit gray: modality LUT, VOI LUT or window, inversion, padding, luma."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.pixels.processing import apply_modality_lut, apply_voi

# ITU-R 601, as Pillow converts colour to gray.
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
# A full table of 16-bit values; wider data is mapped value by value.
_TABLE_SIZE = 2**16
# A burned-in marker or a dead pixel must not decide how much contrast the lungs get.
_TAIL = 0.005


def render(values: NDArray, dataset: Dataset) -> NDArray[np.uint8]:
    """`(H, W)` stored values to gray, as the header of `dataset` says; padding is black."""
    padding = _padding(values, dataset)
    low, high = int(values.min()), int(values.max())
    if high - low < _TABLE_SIZE:
        ramp = np.arange(low, high + 1, dtype=np.int64)

        def counts() -> NDArray[np.int64]:
            return count(values, low, ramp.size, padding)

        gray = look_up(_to_gray(ramp, counts, dataset), values, low)
    else:
        gray = _to_gray(values, None, dataset)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        gray = 255 - gray
    if padding is not None:
        gray = np.where(padding, np.uint8(0), gray)
    return gray


def luma(colour: NDArray, bits: int) -> NDArray[np.uint8]:
    """`(H, W, 3)` RGB of `bits` bits to `(H, W)` gray."""
    gray = np.empty(colour.shape[:2], np.uint8)
    for rows in row_blocks(gray.shape):
        light = colour[rows].astype(np.float32) @ LUMA * (255 / (2**bits - 1))
        gray[rows] = np.round(np.clip(light, 0, 255))
    return gray


def count(
    values: NDArray, low: int, size: int, excluded: NDArray[np.bool_] | None = None
) -> NDArray[np.int64]:
    """How often each of `low`, `low + 1`, ... occurs.

    Args:
        values: `(H, W)` integers from `low` to `low + size - 1`.
        low: the least value.
        size: number of values.
        excluded: `(H, W)`, pixels that are not counted.
    """
    counts = np.zeros(size, np.int64)
    for rows in row_blocks(values.shape):
        block = values[rows] if excluded is None else values[rows][~excluded[rows]]
        counts += np.bincount((block.astype(np.int64) - low).ravel(), minlength=size)
    return counts


def look_up(table: NDArray[np.uint8], values: NDArray, low: int) -> NDArray[np.uint8]:
    """`(H, W)` integers to the entries of a table, of which the first is that of `low`."""
    if values.dtype == np.uint8 and (table == np.arange(low, low + table.size)).all():
        return values
    gray = np.empty(values.shape, np.uint8)
    for rows in row_blocks(values.shape):
        gray[rows] = table[values[rows].astype(np.int64) - low]
    return gray


def row_blocks(shape: tuple[int, ...]) -> Iterator[slice]:
    """Rows of about a million pixels of a `(H, W)` image, for steps of many bytes a pixel."""
    step = max(1, 2**20 // shape[1])
    return (slice(start, start + step) for start in range(0, shape[0], step))


def stretch_contrast(values: NDArray, counts: NDArray | None = None) -> NDArray[np.float64]:
    """Scale values so that their 0.5th percentile becomes 0 and their 99.5th becomes 1.

    Args:
        values: any shape; where `counts` is given, each value once.
        counts: how often each value occurs; once where None.

    Returns:
        0-1, of the same shape; all 0 where there is one value only.
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


def _to_gray(
    values: NDArray, counts: Callable[[], NDArray] | None, dataset: Dataset
) -> NDArray[np.uint8]:
    """Stored values to 0-255 through the modality LUT and the VOI LUT or window.

    Args:
        values: stored values, or each of them once.
        counts: gives how often each value occurs, where each is there once; rarely called.
        dataset: the header.
    """
    modality = _modality(values, dataset)
    gray = _voi_lut(modality, dataset)
    if gray is None:
        gray = _windowed(np.asarray(modality, np.float64), dataset)
    bits = int(dataset.BitsStored)
    if gray is None and bits <= 8 and np.array_equal(modality, values):
        # Eight bits without any transformation are gray levels already.
        lowest = -(2 ** (bits - 1)) if dataset.PixelRepresentation else 0
        gray = (values - lowest) / (2**bits - 1)
    if gray is None:
        gray = stretch_contrast(np.asarray(modality, np.float64), counts() if counts else None)
    return np.round(np.clip(gray, 0, 1) * 255).astype(np.uint8)


def _modality(values: NDArray, dataset: Dataset) -> NDArray:
    """Through the modality LUT or rescale; a slope of 0, or that is not a number, is ignored."""
    if dataset.get("ModalityLUTSequence"):
        return apply_modality_lut(values, dataset)
    slope, intercept = _number(dataset, "RescaleSlope"), _number(dataset, "RescaleIntercept")
    if slope == 0 or (slope is None and intercept is None):
        return values
    return values * (1.0 if slope is None else slope) + (intercept or 0.0)


def _voi_lut(modality: NDArray, dataset: Dataset) -> NDArray[np.float64] | None:
    """0-1 through the VOI LUT, 1 its brightest entry; None where there is no usable LUT."""
    if not dataset.get("VOILUTSequence"):
        return None
    try:
        # The LUT is indexed by integers; a rescale may have made them floats.
        looked_up = apply_voi(np.rint(modality).astype(np.int64), dataset)
        # Its largest entry: headers often claim more bits than the entries use.
        data = dataset.VOILUTSequence[0].LUTData
        entries = np.frombuffer(data, "<u2") if isinstance(data, bytes) else np.asarray(data)
        return looked_up / max(1, int(entries.max()))
    except (AttributeError, IndexError, KeyError, NotImplementedError, TypeError, ValueError):
        return None  # the window, if any, is used instead


def _windowed(values: NDArray[np.float64], dataset: Dataset) -> NDArray[np.float64] | None:
    """0-1 through the first window (beyond it outside 0-1); None where there is no usable one.

    DICOM PS3.3 C.11.2.1.2 and C.11.2.1.3.
    """
    center, width = _number(dataset, "WindowCenter"), _number(dataset, "WindowWidth")
    function = str(dataset.get("VOILUTFunction") or "LINEAR").upper()
    least_width = 1.0 if function == "LINEAR" else 0.0
    if center is None or width is None or width <= least_width:
        return None
    if function == "SIGMOID":
        # Beyond these exponents the result is 0 or 1, and the exponential would overflow.
        return 1 / (1 + np.exp(np.clip(-4 * (values - center) / width, -500, 500)))
    if function == "LINEAR_EXACT":
        return (values - center) / width + 0.5
    return (values - (center - 0.5)) / (width - 1) + 0.5


def _padding(values: NDArray, dataset: Dataset) -> NDArray[np.bool_] | None:
    """Where the detector saw nothing: pixels of the padding value, or in its range."""
    start = _stored(dataset, "PixelPaddingValue")
    if start is None:
        return None
    end = _stored(dataset, "PixelPaddingRangeLimit")
    bounds = sorted((start, start if end is None else end))
    found = (values >= bounds[0]) & (values <= bounds[1])
    # Where every pixel is padding, the header is wrong.
    return found if found.any() and not found.all() else None


def _stored(dataset: Dataset, name: str) -> int | None:
    """A stored value; headers of signed images often give it unsigned, with the same bits."""
    value = dataset.get(name)
    if not isinstance(value, int):
        return None
    allocated = int(dataset.BitsAllocated)
    if dataset.PixelRepresentation and value >= 2 ** (allocated - 1):
        return value - 2**allocated
    return value


def _number(dataset: Dataset, name: str) -> float | None:
    """The first value of an attribute; None where it is absent or not a finite number."""
    value: Any = None
    try:
        value = dataset.get(name)
        if value is not None and not isinstance(value, str | float | int):
            value = value[0] if len(value) else None
        number = None if value in (None, "") else float(value)
    except (TypeError, ValueError):
        return None
    return number if number is not None and math.isfinite(number) else None
