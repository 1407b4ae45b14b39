"""How another inference precision changes an ensemble's boxes and RSNA metric."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rich.console import Console

from lungbox.boxes import OperatingPoint
from lungbox.boxes.geometry import Boxes
from lungbox.datasets.types import Dataset, DatasetError
from lungbox.engines import Engine
from lungbox.evaluation.evaluator import predict_with_progress
from lungbox.evaluation.scores import ScoredPredictions, score_predictions
from lungbox.weights.entries import Precision, PrecisionCheck


@dataclass(frozen=True)
class BoxChanges:
    """How the boxes of a data set differ from float32's.

    Attributes:
        images: with a box in either.
        identical: of these, with the very same boxes.
        other_number: of these, with another number of boxes.
        moved: of those with as many, the 95th percentile of the edge that moved most, as a share
            of the image's side; NaN where there are none.
    """

    images: int
    identical: int
    other_number: int
    moved: float


@dataclass(frozen=True)
class Parity:
    """A precision compared with float32.

    Attributes:
        precision: its name.
        checked: changes of the metric and of the number of boxes.
        metric: the RSNA metric, raw.
        changes: changes of the boxes.
    """

    precision: Precision
    checked: PrecisionCheck
    metric: float
    changes: BoxChanges


def measure(
    engines: dict[Precision, Engine], dataset: Dataset, point: OperatingPoint, console: Console
) -> list[Parity]:
    """Predict a data set with every engine, and compare the boxes with float32's.

    Args:
        engines: by inference precision; one is float32.
        dataset: RSNA's images of a held-out fold.
        point: the ensemble's operating point.
        console: where progress is shown.

    Raises:
        DatasetError: an image could be read for one of them and not for another.
    """
    predictions = {
        precision: predict_with_progress(dataset, engine, console)
        for precision, engine in engines.items()
    }
    read = [[image.identity for image in of.dataset.images] for of in predictions.values()]
    if any(identities != read[0] for identities in read):
        raise DatasetError("not every precision could read the same images; start again")
    scored = {
        precision: score_predictions(of, (point,) * len(of.dataset))
        for precision, of in predictions.items()
    }
    exact = scored["float32"]
    return [
        Parity(
            precision,
            PrecisionCheck(
                metric_change=round(_metric(other) - _metric(exact), 6),
                same_count=round(float(np.mean(_counts(other) == _counts(exact))), 6),
                images=len(exact.found),  # those that could be read
            ),
            _metric(other),
            box_changes(
                [decision.boxes for decision in exact.found],
                [decision.boxes for decision in other.found],
                [image.size for image in predictions[precision].dataset.images],
            ),
        )
        for precision, other in scored.items()
    ]


def box_changes(
    exact: Sequence[Boxes], other: Sequence[Boxes], sizes: Sequence[tuple[int, int]]
) -> BoxChanges:
    """How boxes differ, image by image.

    Args:
        exact: `(N, 4)` `x1, y1, x2, y2` of each image, as float32 has them.
        other: the same in another precision, in pixels of the same files.
        sizes: width and height of each.
    """
    boxed = identical = other_number = 0
    moved = []
    for ours, theirs, size in zip(exact, other, sizes, strict=True):
        if not len(ours) and not len(theirs):
            continue
        boxed += 1
        if len(ours) != len(theirs):
            other_number += 1
            continue
        # Most certain first, an order that may change: from left to right instead.
        pairs = (boxes[np.lexsort(boxes.T[::-1])] for boxes in (ours, theirs))
        shift = np.abs(np.subtract(*pairs)) / np.tile(size, 2)
        identical += not shift.any()
        moved.append(shift.max())
    most = float(np.percentile(moved, 95)) if moved else float("nan")
    return BoxChanges(boxed, identical, other_number, most)


def _metric(scored: ScoredPredictions) -> float:
    return float(np.nanmean(scored.outcomes.parts))


def _counts(scored: ScoredPredictions) -> np.ndarray:
    return np.array([len(decision.boxes) for decision in scored.found])
