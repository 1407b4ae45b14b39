"""Evaluating an ensemble of several findings, or of image-level labels, on a held-out fold."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from lungbox import datasets
from lungbox.boxes import Decision, OperatingPoint
from lungbox.constants import VINBIGDATA_NO_FINDING
from lungbox.datasets.findings import ABNORMAL
from lungbox.datasets.types import LUNG_OPACITY, Dataset, DatasetError
from lungbox.evaluation.estimates import MetricEstimate, draws_of
from lungbox.evaluation.evaluator import (
    EvaluationConfig,
    by_source,
    check_held_out,
    predict_with_progress,
)
from lungbox.evaluation.predictions import DatasetPredictions
from lungbox.metrics.average_precision import CocoMatches, VocMatches, mean_over_classes
from lungbox.metrics.bootstrap import Draws, Estimate
from lungbox.metrics.classification import weighted_auc
from lungbox.metrics.matching import BoxTable
from lungbox.submission import vinbigdata
from lungbox.weights.manifest import load_manifest

# Names of metrics that other modules look up.
VOC, COCO = "mAP at IoU > 0.4 (VOC)", "mAP at IoU 0.5 to 0.95 (COCO)"
CHALLENGE, WITHOUT_GATE = "VinBigData metric, with No finding", "without the gate"
GATE_GAIN = "difference that the gate makes"
AGAINST_NORMAL = "image AUC against normal"


@dataclass(frozen=True)
class ClassRow:
    """The average precision of one class.

    Attributes:
        name: of the class.
        boxes: true boxes.
        images: that have one.
        voc: at IoU > 0.4, VOC's.
        coco: at IoU 0.5 to 0.95, COCO's.
    """

    name: str
    boxes: int
    images: int
    voc: MetricEstimate
    coco: MetricEstimate


@dataclass(frozen=True)
class FindingsScores:
    """The metrics of an ensemble of several findings on one data set.

    Attributes:
        title: of the data set.
        images: number of images.
        figures: over all classes, at the ensemble's operating point; then of the image score, and
            of each image-level label.
        classes: of each class that has a box, in the order of the ensemble's classes.
    """

    title: str
    images: int
    figures: tuple[MetricEstimate, ...]
    classes: tuple[ClassRow, ...]


def has_findings(class_names: Sequence[str]) -> bool:
    """Whether an ensemble of these classes is evaluated here, rather than as one of lung opacity.

    >>> has_findings(["lung opacity"]), has_findings(["ILD", "Nodule/Mass"]), has_findings([])
    (False, True, True)
    """
    return tuple(class_names) != (LUNG_OPACITY,)


def evaluate_findings(config: EvaluationConfig, console: Console) -> list[FindingsScores]:
    """Predict a held-out fold and score the findings at the ensemble's own operating point.

    Args:
        config: the ensemble and the fold.
        console: where progress is shown.

    Returns:
        The metrics of each data set that has boxes of the ensemble's classes; where it predicts no
        boxes, of each that has its image-level labels.

    Raises:
        LungboxError: the data is missing, or the fold is not held out.
    """
    ensemble = load_manifest().ensemble(config.ensemble)
    point, _ = ensemble.settings(config.operating_point, config.gate)
    images = held_out_findings(config)
    engine = config.start(console)
    labels = engine.config.image_labels
    return [
        score_findings(predict_with_progress(part, engine, console), point, labels)
        for part in by_source(images)
        if part.images
    ]


def held_out_findings(config: EvaluationConfig) -> Dataset:
    """The images of a held-out fold with the boxes of the ensemble's classes; those that are
    neither positive nor negative are left out.

    Raises:
        TrainedOnError: a member of the ensemble was trained on the fold, or chosen by its score.
        DatasetError: no data set has boxes of these classes, or the fold has no image of one.
    """
    check_held_out(config.ensemble, config.fold)
    found = datasets.load(config.data)
    if config.class_names:
        found = datasets.as_findings(found, config.class_names).where(
            lambda image: not image.uncertain
        )
    found = found.folds([config.fold])
    if not found.images:
        raise DatasetError(f"{config.data}: has no image of such data in fold {config.fold}")
    return found


def score_findings(
    predictions: DatasetPredictions, point: OperatingPoint, image_labels: Sequence[str] = ()
) -> FindingsScores:
    """The metrics of predictions of one data set at an operating point.

    Args:
        predictions: of images whose boxes are of the data set's `class_names`, which are the
            ensemble's, in its order.
        point: the settings that turn them into boxes.
        image_labels: of the ensemble's image-level probabilities, in their order.
    """
    dataset = predictions.dataset
    figures: list[MetricEstimate] = []
    rows: tuple[ClassRow, ...] = ()
    if predictions.opacity is not None or predictions.detections:
        figures, rows = _box_estimates(predictions, point)
    figures += _image_estimates(predictions, image_labels)
    title = datasets.info_of(dataset.images[0].source).title
    return FindingsScores(title, len(dataset), tuple(figures), rows)


def truth_table(dataset: Dataset, with_nothing: bool = False) -> BoxTable:
    """The true boxes; with `with_nothing`, images without any have VinBigData's "no finding"."""
    numbers = {name: number for number, name in enumerate(dataset.class_names)}
    boxes, classes = [], []
    for image in dataset.images:
        empty = with_nothing and not len(image.boxes)
        boxes.append(_NOTHING if empty else image.boxes)
        names = [numbers[label] for label in image.labels]
        classes.append(np.array([VINBIGDATA_NO_FINDING] if empty else names, np.int64))
    return BoxTable.of(boxes, classes=classes)


def found_table(
    found: Sequence[Decision],
    scores: NDArray[np.float32] | None = None,
    points: Sequence[OperatingPoint] = (),
) -> BoxTable:
    """The predicted boxes; with image scores, and the point of each image, as a submission to
    VinBigData has them, with "no finding"."""
    if scores is not None:
        found = [_submitted(*one) for one in zip(found, scores.tolist(), points, strict=True)]
    return BoxTable.of(*(list(values) for values in zip(*found, strict=True)))


class VocEstimates(NamedTuple):
    """VOC's mean average precision at IoU > 0.4.

    Attributes:
        findings: the mean over the classes of findings.
        challenge: the mean with "no finding", VinBigData's metric; None where the classes are not
            its own.
        by_class: by the number of the class.
    """

    findings: MetricEstimate
    challenge: MetricEstimate | None
    by_class: dict[int, MetricEstimate]


def voc_estimates(
    predictions: DatasetPredictions, found: Sequence[Decision], points: Sequence[OperatingPoint]
) -> VocEstimates:
    """The mean average precision of boxes at IoU > 0.4.

    Args:
        predictions: of N images.
        found: their boxes.
        points: the operating point of each, whose gates decide about "no finding".
    """
    dataset = predictions.dataset
    with_nothing = vinbigdata.is_complete(dataset.class_names)
    table = found_table(found, predictions.scores if with_nothing else None, points)
    matches = VocMatches.of(truth_table(dataset, with_nothing), table)
    of_findings = matches.classes != VINBIGDATA_NO_FINDING if with_nothing else slice(None)

    def compute(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        values = matches.average_precisions(weights)
        means = mean_over_classes(values[:, of_findings]), mean_over_classes(values)
        return np.column_stack([*means, values])

    findings, challenge, *classes = _draws(dataset).estimates(compute)
    count = len(dataset)
    return VocEstimates(
        MetricEstimate.of(VOC, findings, count),
        MetricEstimate.of(CHALLENGE, challenge, count) if with_nothing else None,
        _by_class(VOC, matches, classes),
    )


_NOTHING = np.array([vinbigdata.NOTHING_BOX], np.float32)


def _submitted(found: Decision, score: float, point: OperatingPoint) -> Decision:
    """With "no finding", where a submission has it; see `submission.vinbigdata`."""
    between = point.is_between_gates(score)
    if len(found.boxes) and not between:
        return found
    confidence = 1 - score if between else 1.0
    return Decision(
        np.concatenate([_NOTHING, found.boxes]),
        np.concatenate([np.array([confidence], np.float32), found.scores]),
        np.concatenate([[VINBIGDATA_NO_FINDING], found.labels]),
    )


def _box_estimates(
    predictions: DatasetPredictions, point: OperatingPoint
) -> tuple[list[MetricEstimate], tuple[ClassRow, ...]]:
    dataset, ungated = predictions.dataset, replace(point, gate=0.0, upper_gate=0.0)
    open_boxes = [predictions.boxes(row, ungated) for row in range(len(dataset))]
    boxes = [
        found if score >= point.gate else predictions.boxes(row, point)
        for row, (found, score) in enumerate(zip(open_boxes, predictions.scores, strict=True))
    ]
    voc = voc_estimates(predictions, boxes, [point] * len(dataset))
    without = voc_estimates(predictions, open_boxes, [ungated] * len(dataset))
    truth = truth_table(dataset)
    coco, coco_by_class = _coco_estimates(dataset, CocoMatches.of(truth, found_table(boxes)))
    gain = replace(voc.findings - without.findings, name=GATE_GAIN)
    open_voc = replace(without.findings, name=f"{VOC}, {WITHOUT_GATE}")
    figures = [voc.findings, open_voc, gain, coco]
    if voc.challenge and without.challenge:
        open_challenge = replace(without.challenge, name=f"{CHALLENGE}, {WITHOUT_GATE}")
        figures += [voc.challenge, open_challenge]
    rows = tuple(
        ClassRow(name, *_counts(truth, number), voc.by_class[number], coco_by_class[number])
        for number, name in enumerate(dataset.class_names)
        if number in coco_by_class
    )
    return figures, rows


def _coco_estimates(
    dataset: Dataset, matches: CocoMatches
) -> tuple[MetricEstimate, dict[int, MetricEstimate]]:
    """The mean over classes, and that of each class by its number."""

    def compute(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        values = matches.average_precisions(weights)
        return np.column_stack([mean_over_classes(values), values])

    mean, *classes = _draws(dataset).estimates(compute)
    return MetricEstimate.of(COCO, mean, len(dataset)), _by_class(COCO, matches, classes)


def _by_class(
    name: str, matches: VocMatches | CocoMatches, estimates: Sequence[Estimate]
) -> dict[int, MetricEstimate]:
    triples = zip(matches.classes, estimates, matches.truths, strict=True)
    return {
        int(number): MetricEstimate.of(name, estimate, len(np.unique(truths)))
        for number, estimate, truths in triples
    }


def _draws(dataset: Dataset) -> Draws:
    return draws_of(np.array([image.patient for image in dataset.images]))


def _counts(truth: BoxTable, number: int) -> tuple[int, int]:
    chosen = truth.images[truth.classes == number]
    return len(chosen), len(np.unique(chosen))


def _image_estimates(
    predictions: DatasetPredictions, image_labels: Sequence[str]
) -> list[MetricEstimate]:
    """The AUC of the image score for any abnormality, and of each image-level label's probability,
    on the images whose label is known: of several readers, what half of them marked."""
    images, found = predictions.dataset.images, []
    known = [dict(image.findings) for image in images]
    columns = [(AGAINST_NORMAL, ABNORMAL, predictions.scores)]
    if predictions.classes is not None:
        names = list(dict.fromkeys(name for labels in known for name in labels))
        for number, label in enumerate(image_labels):
            # A finding's name has that of its data set before it.
            name = next((name for name in names if label in (name, name.partition(" ")[2])), label)
            columns.append((f"image AUC, {label}", name, predictions.classes[:, number]))
    for title, name, scores in columns:
        chosen = np.array([name in labels for labels in known])
        target = np.array([labels.get(name, 0) >= 0.5 for labels in known])[chosen]
        if len(set(target.tolist())) == 2:
            found.append(_auc(title, predictions.dataset, chosen, target, scores[chosen]))
    return found


def _auc(
    name: str,
    dataset: Dataset,
    chosen: NDArray[np.bool_],
    target: NDArray[np.bool_],
    scores: NDArray[np.float32],
) -> MetricEstimate:
    patients = np.array([image.patient for image in dataset.images])[chosen]
    estimate = draws_of(patients).estimate(lambda weights: weighted_auc(target, scores, weights))
    return MetricEstimate.of(name, estimate, len(target))
