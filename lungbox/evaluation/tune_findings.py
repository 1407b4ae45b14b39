"""`lungbox tune` of an ensemble of several findings: least score, IoU of fusion and the two gates,
for mean average precision at IoU > 0.4."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from lungbox.boxes import OperatingPoint
from lungbox.common.progress import progress_bar
from lungbox.constants import VINBIGDATA_NO_FINDING
from lungbox.datasets.types import DatasetError
from lungbox.errors import LungboxError
from lungbox.evaluation.estimates import MetricEstimate
from lungbox.evaluation.evaluator import EvaluationConfig, by_source, predict_with_progress
from lungbox.evaluation.findings import (
    found_table,
    held_out_findings,
    truth_table,
    voc_estimates,
)
from lungbox.evaluation.operating_point import PARTS, CrossFit, as_toml, patient_parts
from lungbox.evaluation.predictions import DatasetPredictions
from lungbox.metrics.average_precision import VocMatches, mean_over_classes
from lungbox.submission import vinbigdata
from lungbox.weights.manifest import (
    check_name,
    load_manifest,
    read_manifest,
    register_ensemble,
    shipped_path,
)


@dataclass(frozen=True)
class FindingsGrid:
    """The values searched.

    Attributes:
        min_scores: least scores of a detection network's boxes.
        ious: above which boxes are one, of one network and of several.
        gates: number of lower gates, at quantiles of the image scores of the images without a
            finding, after no gate at all.
        upper_gates: number of upper gates, at quantiles of those with one, after none.
    """

    min_scores: Sequence[float] = (0.01, 0.05, 0.1)
    ious: Sequence[float] = (0.3, 0.4, 0.5, 0.6)
    gates: int = 20
    upper_gates: int = 20

    def box_settings(self, point: OperatingPoint) -> list[OperatingPoint]:
        """A point for each combination of the settings of boxes, without gates.

        VinBigData's boxes are of any size and are not shrunk.
        """
        plain = replace(point, min_area=0.0, shrink=0.0, gate=0.0, upper_gate=0.0)
        return [
            replace(plain, min_score=score, nms_iou=iou, fusion_iou=iou)
            for score, iou in product(self.min_scores, self.ious)
        ]


def tune_findings(config: EvaluationConfig, save: str | None, console: Console) -> CrossFit:
    """Search the operating point of an ensemble of several findings, print its metric, and
    register it.

    Args:
        config: the ensemble, and the fold it is tuned on.
        save: the name of the ensemble to register; the ensemble's own where None, unless it comes
            with Lungbox, whose result is only shown.
        console: where progress is shown.

    Raises:
        LungboxError: the data is missing, the fold is not held out, or no member predicts boxes.
    """
    name = config.ensemble
    ensemble = load_manifest().ensemble(name)
    if not config.class_names:
        raise LungboxError(f"{name} predicts no boxes, so it has no operating point to choose")
    if save:
        check_name(save)  # before the search, not after it
    images = by_source(held_out_findings(config))
    largest = max(images, key=len)
    predictions = predict_with_progress(largest, config.start(console), console)
    if not any(image.target for image in predictions.dataset.images):
        raise DatasetError(f"{config.data}: fold {config.fold} has no box of {name}'s classes")
    grid = FindingsGrid()
    with progress_bar(console, "Searching", len(grid.box_settings(ensemble.point))) as progress:
        fitted = cross_fit_findings(predictions, ensemble.point, grid, progress.advance)
    count = len(predictions.dataset)
    present = _estimate(predictions, (ensemble.point,) * count)
    searched = _estimate(predictions, fitted.points)
    _show(present, searched, f"{searched.name}, fold {config.fold}")
    print(f"\n{as_toml(fitted.point)}\n")
    if not save and (searched - present).high < 0:
        console.print(f"It scores lower than {name}'s own point, which stays.", markup=False)
    elif not save and name in read_manifest(shipped_path()).ensembles:
        console.print(f"{name} comes with Lungbox; --save NAME registers this as one of yours.")
    else:
        note = f"`python -m lungbox tune` on fold {config.fold}: {searched.name} {searched}"
        note += ", cross-fitted"
        changed = ensemble.model_copy(update=vars(fitted.point) | {"note": note})
        register_ensemble(save or name, changed)
        console.print(
            f"Registered: python -m lungbox predict IMAGE_DIR --ensemble {save or name}",
            markup=False,
        )
    return fitted


def cross_fit_findings(
    predictions: DatasetPredictions,
    point: OperatingPoint,
    grid: FindingsGrid,
    advance: Callable[[], object] = lambda: None,
    seed: int = 2024,
) -> CrossFit:
    """Choose a point for mAP at IoU > 0.4, of VinBigData's classes with "no finding".

    Args:
        predictions: of images the weights were not trained on, of which some have boxes.
        point: the values that are not searched.
        grid: the values searched.
        advance: called for every combination of the settings of boxes.
        seed: decides which patients are held out together.

    Returns:
        The point chosen on all images, and for each image the one chosen on the other patients.
    """
    parts = patient_parts(predictions.dataset, PARTS, seed)
    weights = np.stack([parts != part for part in range(PARTS)] + [parts >= 0]).astype(np.float64)
    lower, upper = _gates(predictions, grid)
    best, chosen = np.full(len(weights), -1.0), [point] * len(weights)
    for settings in grid.box_settings(point):
        boxes = _Boxes.of(predictions, settings)
        for gate in lower:
            above = [over for over in upper if over == 0 or over > gate]
            for over, values in zip(above, boxes.metrics(weights, gate, above), strict=True):
                for row in np.flatnonzero(values > best):
                    best[row] = values[row]
                    chosen[row] = replace(settings, gate=gate, upper_gate=over)
        advance()
    return CrossFit(chosen[-1], tuple(chosen[part] for part in parts))


def _gates(predictions: DatasetPredictions, grid: FindingsGrid) -> tuple[list[float], list[float]]:
    """The lower and the upper gates to try."""
    target = np.array([image.target for image in predictions.dataset.images])

    def at(scores: NDArray[np.float32], count: int) -> list[float]:
        if not count or not len(scores):
            return [0.0]
        found = np.quantile(scores, np.linspace(0, 1, count)).round(4)
        return [0.0, *np.unique(found).tolist()]

    lower = at(predictions.scores[~target], grid.gates)
    if not vinbigdata.is_complete(predictions.dataset.class_names):
        return lower, [0.0]  # the upper one only decides about "no finding"
    return lower, at(predictions.scores[target], grid.upper_gates)


@dataclass(frozen=True)
class _Boxes:
    """The boxes of all images without a gate, matched with the truth once for all gates."""

    matches: VocMatches
    scores: NDArray[np.float64]  # (N,) image scores
    target: NDArray[np.bool_]  # (N,) whether an image has a box
    found: NDArray[np.bool_]  # (N,) whether any is found
    with_nothing: bool  # whether "no finding" is a class

    @classmethod
    def of(cls, predictions: DatasetPredictions, settings: OperatingPoint) -> "_Boxes":
        images = predictions.dataset.images
        table = found_table([predictions.boxes(row, settings) for row in range(len(images))])
        return cls(
            matches=VocMatches.of(truth_table(predictions.dataset), table),
            scores=predictions.scores.astype(np.float64),
            target=np.array([image.target for image in images]),
            found=np.isin(np.arange(len(images)), table.images),
            with_nothing=vinbigdata.is_complete(predictions.dataset.class_names),
        )

    def metrics(
        self, weights: NDArray[np.float64], gate: float, upper: Sequence[float]
    ) -> Iterator[NDArray[np.float64]]:
        """`(R,)` mean average precision under `(R, N)` weights of images, at each upper gate."""
        opened = self.scores >= gate
        findings = self._behind(opened).average_precisions(weights)
        for over in upper:
            parts = [findings]
            if self.with_nothing:
                parts.append(self._nothing(opened, over).average_precisions(weights))
            yield mean_over_classes(np.concatenate(parts, axis=1))

    def _behind(self, opened: NDArray[np.bool_]) -> VocMatches:
        """The matches of the images whose gate is open."""
        kept = [opened[images] for images in self.matches.images]
        return replace(
            self.matches,
            images=tuple(i[rows] for i, rows in zip(self.matches.images, kept, strict=True)),
            hit=tuple(h[rows] for h, rows in zip(self.matches.hit, kept, strict=True)),
        )

    def _nothing(self, opened: NDArray[np.bool_], upper: float) -> VocMatches:
        """The matches of "no finding" alone, as a submission has it."""
        between = opened & (self.scores < upper)
        confidence = np.where(between, 1 - self.scores, 1.0)
        written = np.flatnonzero(between | ~(opened & self.found))
        rows = written[np.argsort(-confidence[written], kind="stable")]
        return VocMatches(
            classes=np.array([VINBIGDATA_NO_FINDING]),
            truths=(np.flatnonzero(~self.target),),
            images=(rows,),
            hit=(~self.target[rows],),
        )


def _estimate(predictions: DatasetPredictions, points: Sequence[OperatingPoint]) -> MetricEstimate:
    """The metric of each image at a point of its own."""
    found = [predictions.boxes(row, point) for row, point in enumerate(points)]
    estimates = voc_estimates(predictions, found, points)
    return estimates.challenge or estimates.findings


def _show(present: MetricEstimate, searched: MetricEstimate, title: str) -> None:
    table = Table("", "metric (95 % interval)", "difference to as it is", title=title)
    table.add_row("as it is", str(present), "")
    table.add_row("searched", str(searched), str(searched - present))
    console = Console(highlight=False)
    console.print(table)
    console.print(
        "The search is cross-fitted: each patient's boxes come from the point chosen on the "
        "others. The present point may have been chosen on these very patients."
    )
