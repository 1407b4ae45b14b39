"""Choosing an operating point for the metric itself, without fooling oneself: the figure that is
reported is always for patients the choice has not seen."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import compress, product

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
RESAMPLES = 100


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


# What the manifest and the documentation say of a point that was chosen here.
HOW_CHOSEN = (
    f"the median of the gates that are best on {RESAMPLES} resamples of the patients at the "
    "challenge's mix of classes; the other values are those best behind it on average"
)


def cross_fit(
    maps: Maps, grid: Grid, seed: int = 2024, advance: Callable[[], object] = lambda: None
) -> CrossFit:
    """Choose an operating point for the RSNA metric at the challenge's mix of classes.

    The gate is chosen by bagging (Breiman 1996), see `HOW_CHOSEN`. A handful of hard negatives
    carries 44 % of the mix's weight, and the best on the images as they are would follow single
    ones.

    Args:
        maps: of RSNA images the weights were not trained on.
        grid: the values tried.
        seed: decides which patients are held out together.
        advance: called for every point tried.
    """
    search = _Search.over(maps, grid, advance)
    parts = patient_parts(maps.dataset, PARTS, seed)
    of_part = [search.choose(parts != part) for part in range(PARTS)]
    everything = search.choose(np.ones(len(parts), bool))
    return CrossFit(everything, tuple(of_part[part] for part in parts))


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


def has_mix(dataset: Dataset) -> bool:
    """Whether every class of the challenge's mix has an image."""
    return set(RSNA_CLASS_MIX) <= {image.category for image in dataset.images}


def mix_weights(dataset: Dataset, counts: NDArray[np.number] | None = None) -> NDArray[np.float64]:
    """Weights that give RSNA's classes their shares of the challenge; where one of them has no
    image in the data set, all images count alike.

    Args:
        dataset: N images.
        counts: `(N,)` how often each is there; once by default. Where a class of the data set is
            not among them, all weights are NaN.
    """
    if not has_mix(dataset):
        return np.ones(len(dataset)) if counts is None else np.asarray(counts, np.float64)
    categories = [image.category for image in dataset.images]
    return bootstrap.mix_weights(categories, RSNA_CLASS_MIX, counts)


def patient_parts(dataset: Dataset, parts: int, seed: int) -> NDArray[np.int64]:
    """For each image, which of `parts` its patient is in; all images of one are together.

    Patients are shared out class by class, a patient of several by the rarest of them, so that
    each part has its share of the few.
    """
    images = dataset.images
    rarity = Counter(image.category for image in images)
    rarest: dict[str, str] = {}
    for image in sorted(images, key=lambda image: (-rarity[image.category], image.category)):
        rarest[image.patient] = image.category  # the last to be set is the rarest
    shuffled = np.random.default_rng(seed).permutation(sorted(rarest)).tolist()
    shuffled.sort(key=lambda patient: rarest[patient])
    part = {patient: place % parts for place, patient in enumerate(shuffled)}
    return np.array([part[image.patient] for image in images], np.int64)


@dataclass(frozen=True)
class _Search:
    """The parts of every image in the metric, at every point of a grid, before any gate."""

    points: list[OperatingPoint]
    gates: NDArray[np.float64]
    table: NDArray[np.float64]  # (points, images), NaN where the image does not count
    open: NDArray[np.bool_]  # (gates, images), whether the gate lets it through
    truth: NDArray[np.bool_]  # (images,), whether there is any true box
    dataset: Dataset

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
            dataset=maps.dataset,
        )

    def choose(self, chosen: NDArray[np.bool_]) -> OperatingPoint:
        """The point for the `chosen` images, by bagging over their patients.

        Resamples without one of the classes have no mix and are drawn anew; where the `chosen`
        images themselves lack one, all count alike.
        """
        images = self.dataset.images
        patients = np.array([image.patient for image in images])
        names, member = np.unique(patients, return_inverse=True)
        pool = np.unique(member[chosen])
        random = np.random.default_rng(2024)
        total = np.zeros((len(self.points), len(self.gates)))
        best: list[int] = []
        mixed = has_mix(Dataset(tuple(compress(images, chosen))))
        while len(best) < RESAMPLES:
            drawn = np.bincount(random.choice(pool, len(pool)), minlength=len(names))
            counts = drawn[member] * chosen
            weights = mix_weights(self.dataset, counts) if mixed else counts.astype(np.float64)
            if np.isnan(weights).any():
                continue
            values = self.values(weights)
            best.append(int(values.argmax()) % len(self.gates))
            total += values
        gate = int(np.percentile(best, 50, method="nearest"))
        return replace(self.points[int(total[:, gate].argmax())], gate=float(self.gates[gate]))

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
