"""Choosing an operating point for the metric itself, without fooling oneself: the figure that is
reported is always for patients the choice has not seen."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from lungbox.boxes import CONFIDENCES, OperatingPoint, candidates, select
from lungbox.boxes.regions import Confidence, Extent
from lungbox.constants import RSNA_CLASS_MIX
from lungbox.datasets.types import Dataset
from lungbox.evaluation.maps import Maps
from lungbox.metrics import bootstrap
from lungbox.metrics.detection import rsna_image_scores

PARTS = 5
_ALWAYS = ("rule", "threshold", "min_area", "shrink", "gate")
RESAMPLES = 200


@dataclass(frozen=True)
class Grid:
    """The values tried. Shrink has a floor from elsewhere: boxes that several readers agreed on
    are smaller than those of one, and every image here was read by one."""

    thresholds: Sequence[float] = (0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6)
    min_areas: Sequence[float] = (0.005, 0.0075, 0.01)
    shrinks: Sequence[float] = (0.05, 0.0625, 0.075)
    splits: Sequence[bool] = (False,)
    extents: Sequence[Extent] = ("all",)
    confidences: Sequence[Confidence] = ("mean",)
    one_a_lung: Sequence[bool] = (False,)
    gates: int = 60

    def finders(self) -> list[OperatingPoint]:
        """Every combination of what decides which regions there are."""
        combinations = product(self.thresholds, self.splits, self.extents)
        return [
            OperatingPoint("threshold", threshold, split=split, extent=extent)
            for threshold, split, extent in combinations
        ]

    def selectors(self, finder: OperatingPoint) -> list[OperatingPoint]:
        """Every combination of what becomes of the regions a finder finds, without a gate."""
        combinations = product(self.min_areas, self.shrinks, self.confidences, self.one_a_lung)
        return [
            replace(finder, min_area=area, shrink=share, confidence=confidence, one_a_lung=one)
            for area, share, confidence, one in combinations
        ]

    def points(self) -> list[OperatingPoint]:
        """Every combination, without a gate."""
        return [point for finder in self.finders() for point in self.selectors(finder)]


# Everything a point can say: 3,072 combinations, each with every gate.
WIDE = Grid(
    min_areas=(0.0025, 0.005, 0.0075, 0.01),
    splits=(False, True),
    extents=("all", "mass"),
    confidences=CONFIDENCES,
    one_a_lung=(False, True),
    shrinks=(0.05, 0.0625, 0.075, 0.0875),
)


@dataclass(frozen=True)
class CrossFit:
    """An operating point, and what choosing one this way is worth.

    Attributes:
        point: chosen on all images.
        points: for each image, the point chosen on the other patients.
    """

    point: OperatingPoint
    points: tuple[OperatingPoint, ...]


def cross_fit(
    maps: Maps, grid: Grid, seed: int = 2024, advance: Callable[[], object] = lambda: None
) -> CrossFit:
    """Choose an operating point for the RSNA metric at the challenge's mix of classes.

    The most sensitive point that cannot be told from the best: the lowest gate whose metric is
    within one standard error of the highest. A handful of hard negatives carries 44 % of the
    mix's weight, and the highest alone would follow single images of them.

    Args:
        maps: of RSNA images the weights were not trained on.
        grid: the values tried.
        seed: decides which patients are held out together.
        advance: called for every point tried.
    """
    search = _Search.over(maps, grid, advance)
    weights = mix_weights(maps.dataset)
    patients = patient_parts(maps.dataset, len(maps.dataset), seed)
    parts = patients % PARTS
    of_part = [search.choose(weights * (parts != part), patients) for part in range(PARTS)]
    return CrossFit(search.choose(weights, patients), tuple(of_part[part] for part in parts))


def image_scores(maps: Maps, points: Sequence[OperatingPoint]) -> NDArray[np.float64]:
    """Each image's part in the RSNA metric under a point of its own; NaN: it does not count."""
    return _scored(maps.dataset, [maps.boxes(row, point) for row, point in enumerate(points)])


def _scored(dataset: Dataset, found: Sequence[tuple[NDArray, NDArray]]) -> NDArray[np.float64]:
    """Each image's part in the RSNA metric with the boxes and confidences found on it."""
    boxes, scores = zip(*found, strict=True)
    return rsna_image_scores([image.boxes for image in dataset.images], boxes, scores)


def ungated_scores(
    maps: Maps,
    points: Sequence[OperatingPoint],
    advance: Callable[[], object] = lambda: None,
) -> NDArray[np.float64]:
    """`(points, images)`: each image's part in the RSNA metric under each point, without gates.

    Args:
        maps: N images.
        points: alike in rule, threshold, split and extent, so that regions are found once.
        advance: called for every point.
    """
    images = maps.dataset.images
    found = [candidates(maps.mask(row), points[0]) for row in range(len(images))]
    rows = []
    for point in points:
        pairs = zip(found, images, strict=True)
        chosen = [select(regions, image.size, point) for regions, image in pairs]
        rows.append(_scored(maps.dataset, chosen))
        advance()
    return np.stack(rows)


def as_toml(point: OperatingPoint) -> str:
    """What a manifest says of a point; what is as it would be anyway is left out, except for the
    five keys that always matter."""
    plain, values = vars(OperatingPoint()), vars(point)
    shown = {key: value for key, value in values.items() if key in _ALWAYS or value != plain[key]}
    return "\n".join(f"{key} = {json.dumps(value)}" for key, value in shown.items())


def in_brief(point: OperatingPoint) -> str:
    """`as_toml` in one line."""
    return as_toml(point).replace(" = ", " ").replace("\n", ", ")


def mix_weights(dataset: Dataset) -> NDArray[np.float64]:
    """Weights that give RSNA's classes their shares of the challenge."""
    return bootstrap.mix_weights([image.category for image in dataset.images], RSNA_CLASS_MIX)


def patient_parts(dataset: Dataset, parts: int, seed: int) -> NDArray[np.int64]:
    """For each image, which of `parts` its patient is in; all images of one are together.

    With as many parts as images, each patient is a part.
    """
    patients = np.array([image.patient for image in dataset.images])
    names, member = np.unique(patients, return_inverse=True)
    return np.random.default_rng(seed).permutation(len(names))[member] % parts


@dataclass(frozen=True)
class _Search:
    """The parts of every image in the metric, at every point of a grid, before any gate."""

    points: list[OperatingPoint]
    gates: NDArray[np.float64]
    table: NDArray[np.float64]  # (points, images), NaN where the image does not count
    open: NDArray[np.bool_]  # (gates, images), whether the gate lets it through
    truth: NDArray[np.bool_]  # (images,), whether there is any true box

    @classmethod
    def over(cls, maps: Maps, grid: Grid, advance: Callable[[], object]) -> "_Search":
        quantiles = np.quantile(maps.scores, np.linspace(0, 0.98, grid.gates))
        gates: NDArray[np.float64] = np.unique(np.round(np.asarray(quantiles, np.float64), 4))
        return cls(
            points=grid.points(),
            gates=gates,
            table=np.concatenate(
                [ungated_scores(maps, grid.selectors(finder), advance) for finder in grid.finders()]
            ),
            open=maps.scores >= gates[:, None],
            truth=np.array([len(image.boxes) > 0 for image in maps.dataset.images]),
        )

    def choose(self, weights: NDArray[np.float64], patients: NDArray[np.int64]) -> OperatingPoint:
        """The point with the lowest gate within one standard error of the best.

        The error is that of the difference to the best, by bootstrap over patients.
        """
        values = self.values(weights)
        best = np.unravel_index(values.argmax(), values.shape)
        random = np.random.default_rng(2024)
        behind = []
        for _ in range(RESAMPLES):
            drawn = np.bincount(random.choice(patients, len(patients)), minlength=len(patients))
            resampled = self.values(weights * drawn[patients])
            behind.append(resampled[best] - resampled)
        near = values >= values[best] - np.std(behind, axis=0)
        column = int(near.any(axis=0).argmax())
        row = int(np.where(near[:, column], values[:, column], -1).argmax())
        return replace(self.points[row], gate=float(self.gates[column]))

    def values(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """`(points, gates)`: the metric under `weights`.

        A gate that closes on an image with truth makes it count 0; one without truth then does
        not count.
        """
        counted = ~np.isnan(self.table)
        gained = (np.where(counted, self.table, 0) * weights) @ self.open.T
        false_alarms = (counted * weights * ~self.truth) @ self.open.T
        total = (weights * self.truth).sum() + false_alarms
        return np.divide(gained, total, out=np.zeros_like(gained), where=total > 0)
