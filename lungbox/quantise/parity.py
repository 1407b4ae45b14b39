"""What another precision makes of an ensemble's boxes: the RSNA metric with it and without."""

from dataclasses import dataclass

import numpy as np
from rich.console import Console

from lungbox.boxes import OperatingPoint
from lungbox.datasets.types import Dataset, DatasetError
from lungbox.engines import Engine
from lungbox.evaluation.assess import maps_shown
from lungbox.evaluation.maps import Maps
from lungbox.evaluation.scores import Judged, judge
from lungbox.weights.entries import Checked, Precision


@dataclass(frozen=True)
class Parity:
    """A precision beside float32.

    Attributes:
        precision: the type.
        checked: what becomes of the boxes.
        metric: the RSNA metric on the images as they are.
    """

    precision: Precision
    checked: Checked
    metric: float


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
        )
        for precision, other in judged.items()
    ]


def _judged(maps: Maps, point: OperatingPoint) -> Judged:
    return judge(maps, (point,) * len(maps.dataset))


def _metric(judged: Judged) -> float:
    return float(np.nanmean(judged.outcomes.parts))


def _counts(judged: Judged) -> np.ndarray:
    return np.array([len(boxes) for boxes, _ in judged.found])
