"""How another precision changes an ensemble's boxes, and the RSNA metric with them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rich.console import Console

from lungbox.boxes import OperatingPoint
from lungbox.boxes.geometry import Boxes
from lungbox.datasets.types import Dataset, DatasetError
from lungbox.engines import Engine
from lungbox.evaluation.assess import maps_shown
from lungbox.evaluation.maps import Maps
from lungbox.evaluation.scores import Judged, judge
from lungbox.weights.entries import Checked, Precision


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
    """A precision beside float32.

    Attributes:
        precision: the type.
        checked: how metric and number of boxes change.
        metric: the RSNA metric on the images as they are.
        changes: how the boxes themselves do.
    """

    precision: Precision
    checked: Checked
    metric: float
    changes: BoxChanges


def measure(
    engines: dict[Precision, Engine], dataset: Dataset, point: OperatingPoint, say: Console
) -> list[Parity]:
    """Run every engine over a data set and hold its boxes against float32's.

    Args:
        engines: by the precision they compute in; float32 is among them.
        dataset: RSNA's images of a fold that nobody learned from.
        point: the ensemble's own, for all.
        say: where progress is shown.

    Raises:
        DatasetError: an image could be read for one of them and not for another.
    """
    maps = {precision: maps_shown(dataset, engine, say) for precision, engine in engines.items()}
    read = [[image.identity for image in of.dataset.images] for of in maps.values()]
    if any(identities != read[0] for identities in read):
        raise DatasetError("not every precision could read the same images; start again")
    judged = {precision: _judged(of, point) for precision, of in maps.items()}
    exact = judged["float32"]
    return [
        Parity(
            precision,
            Checked(
                metric_change=round(_metric(other) - _metric(exact), 6),
                same_count=round(float(np.mean(_counts(other) == _counts(exact))), 6),
                images=len(exact.found),  # those that could be read
            ),
            _metric(other),
            box_changes(
                [boxes for boxes, _ in exact.found],
                [boxes for boxes, _ in other.found],
                [image.size for image in maps[precision].dataset.images],
            ),
        )
        for precision, other in judged.items()
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


def _judged(maps: Maps, point: OperatingPoint) -> Judged:
    return judge(maps, (point,) * len(maps.dataset))


def _metric(judged: Judged) -> float:
    return float(np.nanmean(judged.outcomes.parts))


def _counts(judged: Judged) -> np.ndarray:
    return np.array([len(boxes) for boxes, _ in judged.found])
