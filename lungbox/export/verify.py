"""Verification of an exported file: the same predictions and boxes as Keras."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lungbox.boxes import Boxes, OperatingPoint, decide
from lungbox.common.paths import shipped_checkpoints
from lungbox.datasets.phantom import draw
from lungbox.engines import Engine, EngineConfig, predict_with_tta
from lungbox.export.types import ExportError
from lungbox.inference.files import find_image_files
from lungbox.radiograph import prepare, read

# Of any probability.
TOLERANCE = 1e-4
# Of a box's edges, in pixels of the radiograph.
PIXEL = 1.0
_PHANTOMS = 8

Size = tuple[int, int]


def radiographs(config: EngineConfig) -> tuple[NDArray[np.uint8], list[Size]]:
    """Radiographs to verify on: the examples of Lungbox, or phantoms where these are not installed.

    Returns:
        `(N, S, S)` uint8 prepared for the ensemble, and the files' widths and heights.
    """
    folder = shipped_checkpoints().parent / "examples"
    found = find_image_files(folder)[0] if folder.is_dir() else []
    if found:
        pixels = [read(source.path).pixels for source in found]
    else:
        side = 2 * config.image_size
        pixels = [draw(side, i % 3, np.random.default_rng(i)).pixels for i in range(_PHANTOMS)]
    prepared = [prepare(one, config.image_size, config.preparation) for one in pixels]
    return np.stack(prepared), [(one.shape[1], one.shape[0]) for one in pixels]


def compare(
    expected: Engine,
    exported: Engine,
    images: NDArray[np.uint8],
    sizes: list[Size],
    point: OperatingPoint,
) -> float:
    """Compare the predictions of two engines.

    Boxes are compared at the operating point with and without its gate, which leaves few.

    Returns:
        The largest difference of a probability.

    Raises:
        ExportError: an output or the boxes differ.
    """
    predictions = predict_with_tta(expected, images), predict_with_tta(exported, images)
    first, second = (prediction.arrays() for prediction in predictions)
    largest = 0.0
    for name, values in first.items():
        others = second[name]
        if values.shape != others.shape:
            raise ExportError(
                f"{exported.name} predicts {name} of shape {others.shape}, Keras {values.shape}; "
                "nothing was written"
            )
        difference = float(np.abs(values - others).max())
        # Negated, so that NaN does not pass.
        if not difference <= TOLERANCE:
            raise ExportError(
                f"{exported.name} predicts {name} that differ from Keras' by {difference:.2g}, "
                f"more than {TOLERANCE:g}; nothing was written"
            )
        largest = max(largest, difference)
    for row, size in enumerate(sizes):
        for at in (point, replace(point, gate=0.0)):
            ours, theirs = (decide(found.image(row), size, at).boxes for found in predictions)
            if not same_boxes(ours, theirs):
                raise ExportError(
                    f"{exported.name} finds other boxes than Keras on radiograph {row + 1} "
                    f"({len(theirs)} and {len(ours)}); nothing was written"
                )
    return largest


def same_boxes(first: Boxes, second: Boxes) -> bool:
    """Whether two sets of boxes are equal to a pixel, in any order: boxes of nearly equal
    confidence may be sorted differently."""
    if len(first) != len(second) or not len(first):
        return len(first) == len(second)
    distances = np.abs(first[:, None] - second[None]).max(axis=2)
    return bool((distances.min(axis=0) <= PIXEL).all() and (distances.min(axis=1) <= PIXEL).all())
