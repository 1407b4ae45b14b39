"""`lungbox score`: scoring a submission with its challenge's labels."""

from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from lungbox.constants import RSNA_SIZE, VINBIGDATA_CLASSES
from lungbox.datasets import rsna
from lungbox.errors import LungboxError
from lungbox.evaluation.estimates import MetricEstimate, Outcomes
from lungbox.evaluation.labels import Challenge, Labels, has_column, read_labels, values_by_image
from lungbox.evaluation.scores import AT_MIX, RAW
from lungbox.metrics.average_precision import VocMatches, mean_over_classes
from lungbox.metrics.bootstrap import Draws
from lungbox.metrics.matching import BoxTable
from lungbox.submission import read_submission, vinbigdata

# Beside RSNA's labels: which images are of one patient.
PATIENTS, PATIENT_COLUMN = rsna.EXTRAS, "group"
# Of a metric, in JSON.
_SHOWN = ("name", "value", "low", "high", "images")


@dataclass(frozen=True)
class Scored:
    """The metrics of a submission.

    Attributes:
        challenge: its name; its metric comes first.
        images: number of labelled images.
        counted: number of those that count for the metric.
        patients: number of patients; None where unknown, and images are resampled instead.
        figures: with 95 % intervals.
    """

    challenge: Challenge
    images: int
    counted: int
    patients: int | None
    figures: tuple[MetricEstimate, ...]

    def to_record(self) -> dict[str, Any]:
        """As JSON; undefined values are null."""
        figures = [
            {key: _defined(getattr(figure, key)) for key in _SHOWN} for figure in self.figures
        ]
        return {**vars(self), "figures": figures}

    def show(self, console: Console) -> None:
        """Print it as a table."""
        drawn = "images" if self.patients is None else f"{self.patients} patients"
        title = f"{self.challenge}: {self.counted} of {self.images} images count"
        table = Table("figure", title=title, caption=f"95 % intervals by bootstrap over {drawn}")
        for column in ("value", "95 % interval", "images"):
            table.add_column(column, justify="right")
        for figure in self.figures:
            known = _defined(figure.value) is not None
            value = f"{figure.value:.4f}" if known else "–"
            interval = f"{figure.low:.4f} to {figure.high:.4f}" if known else "–"
            table.add_row(figure.name, value, interval, str(figure.images))
        console.print(table)


class ClassesError(LungboxError):
    """Classes are given, but the labels are not RSNA's."""


def score(submission: Path, labels: Path, classes: Path | None = None) -> Scored:
    """Score a submission against the labels of its challenge, both in the same space.

    Args:
        submission: in the format of the labels' challenge; a row for every labelled image.
        labels: RSNA's `stage_2_train_labels.csv` or VinBigData's `train.csv`. Where an
            `images.csv` with `patientId, group` is beside RSNA's, patients are known.
        classes: RSNA's `stage_2_detailed_class_info.csv`, for the challenge's mix.

    Raises:
        SubmissionError: the submission has errors, or an image is missing or unknown.
        LabelsError: the labels or classes cannot be read.
        ClassesError: the labels are VinBigData's, which have no such classes.
    """
    known = read_labels(labels)
    if known.challenge == "RSNA":
        return _score_rsna(submission, known, labels.parent / PATIENTS, classes)
    if classes is not None:
        raise ClassesError(f"{classes}: only RSNA's images have a class; leave out --classes")
    return _score_vinbigdata(submission, known)


def _score_rsna(submission: Path, labels: Labels, patients: Path, classes: Path | None) -> Scored:
    predictions = read_submission(submission, labels.ids, (RSNA_SIZE, RSNA_SIZE))
    grouped = has_column(patients, PATIENT_COLUMN)
    found = [predictions[name] for name in labels.ids]
    outcomes = Outcomes.of(
        patients=values_by_image(patients, PATIENT_COLUMN, labels.ids) if grouped else labels.ids,
        truth=labels.boxes,
        predicted=[prediction.boxes for prediction in found],
        scores=[prediction.scores for prediction in found],
    )
    category = None if classes is None else np.array(values_by_image(classes, "class", labels.ids))
    return Scored(
        challenge="RSNA",
        images=len(labels.ids),
        counted=int((~np.isnan(outcomes.parts)).sum()),
        patients=len(set(outcomes.patients.tolist())) if grouped else None,
        figures=tuple(_rsna_estimates(outcomes, category)),
    )


def _rsna_estimates(outcomes: Outcomes, category: NDArray[np.str_] | None) -> list[MetricEstimate]:
    figures = [outcomes.rsna_metric(RAW)]
    # Without one of its classes, no weights make the challenge's mix.
    if category is not None and set(rsna.INFO.mix) <= set(category.tolist()):
        figures.append(outcomes.rsna_metric_at_mix(AT_MIX, category, rsna.INFO.mix))
    figures += outcomes.recalls()
    figures.append(outcomes.false_positives("false-positive rate", outcomes.truths == 0))
    if category is not None:
        figures += [
            outcomes.false_positives(f"false-positive rate, {name}", category == of_class)
            for name, of_class in rsna.INFO.negatives.items()
        ]
    return figures


def _score_vinbigdata(submission: Path, labels: Labels) -> Scored:
    predictions = vinbigdata.read_submission(submission, labels.ids)
    found = [predictions[name] for name in labels.ids]
    truth = BoxTable.of(labels.boxes, classes=labels.classes)
    predicted = BoxTable.of(
        [prediction.boxes for prediction in found],
        [prediction.scores for prediction in found],
        [prediction.classes for prediction in found],
    )
    return Scored(
        challenge="VinBigData",
        images=len(labels.ids),
        counted=len(labels.ids),
        patients=None,
        figures=tuple(_voc_estimates(VocMatches.of(truth, predicted), labels.ids)),
    )


def _voc_estimates(matches: VocMatches, ids: tuple[str, ...]) -> list[MetricEstimate]:
    """The mean over classes, then each class; images are resampled, as patients are unknown."""

    def compute(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        values = matches.average_precisions(weights)
        return np.column_stack([mean_over_classes(values), values])

    classes = [VINBIGDATA_CLASSES[number] for number in matches.classes]
    names = ["VinBigData metric (mAP at IoU > 0.4)", *(f"AP, {name}" for name in classes)]
    images = [len(ids), *(len(np.unique(truths)) for truths in matches.truths)]
    estimates = Draws.over(ids).estimates(compute)
    return [MetricEstimate.of(*parts) for parts in zip(names, estimates, images, strict=True)]


def _defined(value: Any) -> Any:
    return None if isinstance(value, float) and not isfinite(value) else value
