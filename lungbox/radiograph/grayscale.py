"""Stored values to gray: modality LUT, VOI LUT or window, inversion, padding."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.pixels.processing import apply_modality_lut, apply_voi

from lungbox.radiograph.levels import count, look_up, stretch

# A full table of 16-bit values; wider data is mapped value by value.
_TABLE_SIZE = 2**16


def render(values: NDArray, dataset: Dataset) -> NDArray[np.uint8]:
    """`(H, W)` stored values to gray, as the header of `dataset` says; padding is black."""
    padding = _padding(values, dataset)
    low, high = int(values.min()), int(values.max())
    if high - low < _TABLE_SIZE:
        ramp = np.arange(low, high + 1, dtype=np.int64)

        def counts() -> NDArray[np.int64]:
            return count(values, low, ramp.size, padding)

        gray = look_up(_gray(ramp, counts, dataset), values, low)
    else:
        gray = _gray(values, None, dataset)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        gray = 255 - gray
    if padding is not None:
        gray = np.where(padding, np.uint8(0), gray)
    return gray


def _gray(
    values: NDArray, counts: Callable[[], NDArray] | None, dataset: Dataset
) -> NDArray[np.uint8]:
    """Stored values to 0-255 through the modality LUT and the VOI LUT or window.

    `counts` says how often each value occurs, where `values` is a ramp; most headers never ask.
    """
    modality = _modality(values, dataset)
    shares = _voi_lut(modality, dataset)
    if shares is None:
        shares = _windowed(np.asarray(modality, np.float64), dataset)
    bits = int(dataset.BitsStored)
    if shares is None and bits <= 8 and np.array_equal(modality, values):
        # Eight bits without any transformation are gray levels as they stand.
        lowest = -(2 ** (bits - 1)) if dataset.PixelRepresentation else 0
        shares = (values - lowest) / (2**bits - 1)
    if shares is None:
        shares = stretch(np.asarray(modality, np.float64), counts() if counts else None)
    return np.round(np.clip(shares, 0, 1) * 255).astype(np.uint8)


def _modality(values: NDArray, dataset: Dataset) -> NDArray:
    """Through the modality LUT or rescale; a slope of 0, or one that is no number, is none."""
    if dataset.get("ModalityLUTSequence"):
        return apply_modality_lut(values, dataset)
    slope, intercept = _number(dataset, "RescaleSlope"), _number(dataset, "RescaleIntercept")
    if slope == 0 or (slope is None and intercept is None):
        return values
    return values * (1.0 if slope is None else slope) + (intercept or 0.0)


def _voi_lut(modality: NDArray, dataset: Dataset) -> NDArray[np.float64] | None:
    """Shares of the VOI LUT's brightest entry; None where there is no usable LUT."""
    if not dataset.get("VOILUTSequence"):
        return None
    try:
        # The LUT is indexed by whole numbers; a rescale may have made them floats.
        looked_up = apply_voi(np.rint(modality).astype(np.int64), dataset)
        # Its largest entry: headers often claim more bits than the entries use.
        data = dataset.VOILUTSequence[0].LUTData
        entries = np.frombuffer(data, "<u2") if isinstance(data, bytes) else np.asarray(data)
        return looked_up / max(1, int(entries.max()))
    except (AttributeError, IndexError, KeyError, NotImplementedError, TypeError, ValueError):
        return None  # the window, or none, will do


def _windowed(values: NDArray[np.float64], dataset: Dataset) -> NDArray[np.float64] | None:
    """Shares of the output range under the first window; None where there is no usable one.

    DICOM PS3.3 C.11.2.1.2 and C.11.2.1.3.
    """
    centre, width = _number(dataset, "WindowCenter"), _number(dataset, "WindowWidth")
    function = str(dataset.get("VOILUTFunction") or "LINEAR").upper()
    smallest = 1.0 if function == "LINEAR" else 0.0
    if centre is None or width is None or width <= smallest:
        return None
    if function == "SIGMOID":
        # Beyond these exponents the result is 0 or 1, and the exponential would overflow.
        return 1 / (1 + np.exp(np.clip(-4 * (values - centre) / width, -500, 500)))
    if function == "LINEAR_EXACT":
        return (values - centre) / width + 0.5
    return (values - (centre - 0.5)) / (width - 1) + 0.5


def _padding(values: NDArray, dataset: Dataset) -> NDArray[np.bool_] | None:
    """Where the detector saw nothing: pixels of the padding value, or in its range."""
    start = _stored(dataset, "PixelPaddingValue")
    if start is None:
        return None
    end = _stored(dataset, "PixelPaddingRangeLimit")
    bounds = sorted((start, start if end is None else end))
    found = (values >= bounds[0]) & (values <= bounds[1])
    # An image of nothing but padding is one whose header is wrong.
    return found if found.any() and not found.all() else None


def _stored(dataset: Dataset, name: str) -> int | None:
    """A stored value; signed images often give it unsigned, its bits right and its sign lost."""
    value = dataset.get(name)
    if not isinstance(value, int):
        return None
    allocated = int(dataset.BitsAllocated)
    if dataset.PixelRepresentation and value >= 2 ** (allocated - 1):
        return value - 2**allocated
    return value


def _number(dataset: Dataset, name: str) -> float | None:
    """The first value of an attribute; None where there is none, or it is no finite number."""
    value: Any = None
    try:
        value = dataset.get(name)
        if value is not None and not isinstance(value, str | float | int):
            value = value[0] if len(value) else None
        number = None if value in (None, "") else float(value)
    except (TypeError, ValueError):
        return None
    return number if number is not None and math.isfinite(number) else None
