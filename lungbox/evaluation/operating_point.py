"""Cross-fitted choice of an operating point: the reported metric of each patient comes from a point
that was chosen on other patients."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import compress, product

import numpy as np
from numpy.typing import NDArray

from lungbox.boxes import Decision, OperatingPoint, find_candidates, select
from lungbox.datasets import Dataset, mix_of
from lungbox.evaluation.predictions import DatasetPredictions
from lungbox.metrics import bootstrap
from lungbox.metrics.detection import rsna_image_scores

PARTS = 5
_ALWAYS = ("rule", "threshold", "min_area", "shrink", "gate")
RESAMPLES = 100
# Searched where an ensemble has detection networks.
_MIN_SCORES = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6)


@dataclass(frozen=True)
class SearchGrid:
    """The values searched: thresholds of masks, least scores of detection networks' boxes, and what
    chooses among the boxes of both.

    Shrink is at least 0.05: boxes that several readers agreed on are smaller than those of one,
    and every image here was read by one. Every other setting is that of `fixed`."""

    thresholds: Sequence[float] = (0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6)
    min_areas: Sequence[float] = (0.005, 0.0075, 0.01)
    shrinks: Sequence[float] = (0.05, 0.0625, 0.075)
    max_one_box_per_lung: Sequence[bool] = (False,)
    gates: int = 60
    min_scores: Sequence[float] = ()
    fixed: OperatingPoint = field(default_factory=OperatingPoint)

    def fitting(self, predictions: DatasetPredictions) -> "SearchGrid":
        """The grid without values that have no effect: thresholds where there is no mask, least
        scores where there are no detection networks; else default ones where it has none."""
        thresholds = self.thresholds if predictions.opacity is not None else self.thresholds[:1]
        min_scores = (self.min_scores or _MIN_SCORES) if predictions.detections else ()
        return replace(self, thresholds=thresholds, min_scores=min_scores)

    def fusing_as(self, point: OperatingPoint) -> "SearchGrid":
        """The grid with a point's fusion of several networks' boxes."""
        kept = {name: getattr(point, name) for name in ("nms_iou", "fusion", "fusion_iou")}
        return replace(self, fixed=replace(self.fixed, **kept))

    def region_settings(self) -> list[OperatingPoint]:
        """Every combination of the settings that decide which boxes there are."""
        points = [
            replace(self.fixed, rule="threshold", threshold=threshold)
            for threshold in self.thresholds
        ]
        if not self.min_scores:
            return points
        return [replace(p, min_score=score) for p in points for score in self.min_scores]

    def selection_settings(self, regions: OperatingPoint) -> list[OperatingPoint]:
        """Every combination of the settings that choose among the regions, without a gate."""
        combinations = product(self.min_areas, self.shrinks, self.max_one_box_per_lung)
        return [
            replace(regions, min_area=area, shrink=share, max_one_box_per_lung=one)
            for area, share, one in combinations
        ]

    def points(self) -> list[OperatingPoint]:
        """Every combination, without a gate."""
        return [
            point
            for regions in self.region_settings()
            for point in self.selection_settings(regions)
        ]


# Every setting of masks: 256 combinations, each with every gate.
WIDE_GRID = SearchGrid(
    min_areas=(0.0025, 0.005, 0.0075, 0.01),
    max_one_box_per_lung=(False, True),
    shrinks=(0.05, 0.0625, 0.075, 0.0875),
)


@dataclass(frozen=True)
class CrossFit:
    """An operating point, and those for a cross-fitted estimate of its metric.

    Attributes:
        point: chosen on all images.
        points: for each image, the point chosen on the other patients.
    """

    point: OperatingPoint
    points: tuple[OperatingPoint, ...]


def cross_fit(
    predictions: DatasetPredictions,
    grid: SearchGrid,
    seed: int = 2024,
    advance: Callable[[], object] = lambda: None,
) -> CrossFit:
    """Choose an operating point for the RSNA metric at the challenge's mix of classes.

    The gate is chosen by bagging (Breiman 1996): the median of the best gates of 100 resamples of
    the patients. A few hard negatives carry 44 % of the mix's weight, and the best gate of the
    images as they are would depend on single ones. The other values are the best behind that gate
    on average.

    Args:
        predictions: of RSNA images the weights were not trained on.
        grid: the values searched.
        seed: decides which patients are held out together.
        advance: called for every point tried.
    """
    search = _Search.over(predictions, grid.fitting(predictions), advance)
    parts = patient_parts(predictions.dataset, PARTS, seed)
    of_part = [search.choose(parts != part) for part in range(PARTS)]
    everything = search.choose(np.ones(len(parts), bool))
    return CrossFit(everything, tuple(of_part[part] for part in parts))


def image_scores(
    predictions: DatasetPredictions, points: Sequence[OperatingPoint]
) -> NDArray[np.float64]:
    """`(N,)` RSNA metric of each image at a point of its own; NaN where it does not count."""
    return _scored(
        predictions.dataset, [predictions.boxes(row, point) for row, point in enumerate(points)]
    )


def _scored(dataset: Dataset, found: Sequence[Decision]) -> NDArray[np.float64]:
    boxes, scores, _ = zip(*found, strict=True)
    return rsna_image_scores([image.boxes for image in dataset.images], boxes, scores)


def ungated_scores(
    predictions: DatasetPredictions,
    points: Sequence[OperatingPoint],
    advance: Callable[[], object] = lambda: None,
) -> NDArray[np.float64]:
    """`(points, images)` RSNA metric of each image at each point, without gates.

    Args:
        predictions: N images.
        points: alike in rule and threshold, so that regions are found once.
        advance: called for every point.
    """
    images = predictions.dataset.images
    found = [find_candidates(predictions.prediction(row), points[0]) for row in range(len(images))]
    rows = []
    for point in points:
        pairs = zip(found, images, strict=True)
        chosen = [select(regions, image.size, point) for regions, image in pairs]
        rows.append(_scored(predictions.dataset, chosen))
        advance()
    return np.stack(rows)


def as_toml(point: OperatingPoint) -> str:
    """A point as TOML for the manifest: the five main keys, and others that differ from their
    default."""
    default, values = vars(OperatingPoint()), vars(point)
    shown = {key: v for key, v in values.items() if key in _ALWAYS or v != default[key]}
    return "\n".join(f"{key} = {json.dumps(value)}" for key, value in shown.items())


def in_brief(point: OperatingPoint) -> str:
    """`as_toml` in one line."""
    return as_toml(point).replace(" = ", " ").replace("\n", ", ")


def has_mix(dataset: Dataset) -> bool:
    """Whether every class of the challenge's mix has an image."""
    mix = mix_of(dataset)
    return bool(mix) and set(mix) <= {image.category for image in dataset.images}


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
    return bootstrap.mix_weights(categories, mix_of(dataset), counts)


def resampled_weights(dataset: Dataset, chosen: NDArray[np.bool_]) -> Iterator[NDArray[np.float64]]:
    """`(N,)` weights of the images in each of 100 resamples of the `chosen` images' patients, at
    the challenge's mix.

    Resamples without one of the classes have no mix and are drawn anew; where the `chosen` images
    themselves lack one, all count alike.
    """
    patients = np.array([image.patient for image in dataset.images])
    names, member = np.unique(patients, return_inverse=True)
    pool = np.unique(member[chosen])
    random = np.random.default_rng(2024)
    mixed = has_mix(Dataset(tuple(compress(dataset.images, chosen))))
    found = 0
    while found < RESAMPLES:
        drawn = np.bincount(random.choice(pool, len(pool)), minlength=len(names))
        counts = drawn[member] * chosen
        weights = mix_weights(dataset, counts) if mixed else counts.astype(np.float64)
        if not np.isnan(weights).any():
            found += 1
            yield weights


def patient_parts(dataset: Dataset, parts: int, seed: int) -> NDArray[np.int64]:
    """`(N,)` part of each image, 0 to `parts - 1`; all images of a patient are in one part.

    Patients are distributed class by class, a patient of several classes by the rarest of them, so
    that each part has its share of rare classes.
    """
    images = dataset.images
    rarity = Counter(image.category for image in images)
    rarest: dict[str, str] = {}
    for image in sorted(images, key=lambda image: (-rarity[image.category], image.category)):
        rarest[image.patient] = image.category  # the last to be set is the rarest
    shuffled = np.random.default_rng(seed).permutation(sorted(rarest)).tolist()
    shuffled.sort(key=lambda patient: rarest[patient])
    part = {patient: index % parts for index, patient in enumerate(shuffled)}
    return np.array([part[image.patient] for image in images], np.int64)


@dataclass(frozen=True)
class _Search:
    """The RSNA metric of every image at every point of a grid, before any gate."""

    points: list[OperatingPoint]
    gates: NDArray[np.float64]
    table: NDArray[np.float64]  # (points, images), NaN where the image does not count
    open: NDArray[np.bool_]  # (gates, images), whether the gate lets it through
    truth: NDArray[np.bool_]  # (images,), whether there is any true box
    dataset: Dataset

    @classmethod
    def over(
        cls, predictions: DatasetPredictions, grid: SearchGrid, advance: Callable[[], object]
    ) -> "_Search":
        quantiles = np.quantile(predictions.scores, np.linspace(0, 0.98, grid.gates))
        gates: NDArray[np.float64] = np.unique(np.round(np.asarray(quantiles, np.float64), 4))
        return cls(
            points=grid.points(),
            gates=gates,
            table=np.concatenate(
                [
                    ungated_scores(predictions, grid.selection_settings(regions), advance)
                    for regions in grid.region_settings()
                ]
            ),
            open=predictions.scores >= gates[:, None],
            truth=np.array([len(image.boxes) > 0 for image in predictions.dataset.images]),
            dataset=predictions.dataset,
        )

    def choose(self, chosen: NDArray[np.bool_]) -> OperatingPoint:
        """The point for the `chosen` images, by bagging over their patients."""
        total = np.zeros((len(self.points), len(self.gates)))
        best: list[int] = []
        for weights in resampled_weights(self.dataset, chosen):
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
