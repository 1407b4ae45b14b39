"""How well image-level probabilities tell images with a label from those without: AUC by label."""

from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from lungbox import datasets
from lungbox.datasets.label_sets import LabelSet, label_set_of
from lungbox.datasets.types import Dataset, DatasetError
from lungbox.errors import LungboxError
from lungbox.evaluation.estimates import MetricEstimate, draws_of
from lungbox.evaluation.evaluator import EvaluationConfig, check_held_out, predict_with_progress
from lungbox.evaluation.predictions import DatasetPredictions
from lungbox.metrics.classification import weighted_auc
from lungbox.weights.manifest import load_manifest

MEAN = "mean AUC over the labels"


def mean_auc(labels: LabelSet, dataset: Dataset, probabilities: NDArray[np.floating]) -> float:
    """The mean of the labels' AUCs, each over the images of which that label is known.

    Args:
        labels: their set.
        dataset: N images.
        probabilities: `(N, L)`.

    Returns:
        NaN where no label has both positive and negative images; one that has not is left out.
    """
    once = np.ones((1, len(dataset)))
    return float(_aucs(*labels.truth(dataset.images), probabilities, once)[0, -1])


def label_estimates(
    labels: LabelSet, dataset: Dataset, probabilities: NDArray[np.floating]
) -> list[MetricEstimate]:
    """The AUC of each label with its 95 % interval over patients; of several labels also the mean
    of those that are defined.

    An estimate's `images` are those of which the label is known. Arguments as `mean_auc`.
    """
    positive, known = labels.truth(dataset.images)
    draws = draws_of(np.array([image.patient for image in dataset.images]))
    estimates = draws.estimates(lambda weights: _aucs(positive, known, probabilities, weights))
    counts = (positive & known).sum(axis=0)
    names = [f"{name}, {n} positive" for name, n in zip(labels.class_names, counts, strict=True)]
    images = [*known.sum(axis=0).tolist(), int(known.any(axis=1).sum())]
    found = [
        MetricEstimate.of(name, estimate, of_label)
        for name, estimate, of_label in zip([*names, MEAN], estimates, images, strict=True)
    ]
    return found if len(labels.class_names) > 1 else found[:1]


def _aucs(
    positive: NDArray[np.bool_],
    known: NDArray[np.bool_],
    probabilities: NDArray[np.floating],
    weights: NDArray[np.float64],
) -> NDArray[np.float64]:
    """`(R, L + 1)` AUC of each label and their mean, of images with weights `(R, N)`."""
    columns = []
    for n, rows in enumerate(known.T):
        columns.append(weighted_auc(positive[rows, n], probabilities[rows, n], weights[:, rows]))
    values = np.stack(columns, axis=1)
    defined = (~np.isnan(values)).sum(axis=1)
    total = np.nansum(values, axis=1)
    mean = np.divide(total, defined, out=np.full(len(total), np.nan), where=defined > 0)
    return np.concatenate([values, mean[:, None]], axis=1)


def is_classification(ensemble: str) -> bool:
    """Whether an ensemble has classification networks only, so that it predicts no boxes.

    Raises:
        ManifestError: there is no such ensemble.
    """
    manifest = load_manifest()
    members = manifest.ensemble(ensemble).members
    return all(manifest.file(name).kind == "classification" for name in members)


def evaluate_labels(
    config: EvaluationConfig, console: Console
) -> tuple[LabelSet, dict[str, DatasetPredictions]]:
    """Predict the images of a held-out fold that have one of a classification ensemble's labels.

    Returns:
        The label set, and the predictions of each data set by title.

    Raises:
        LungboxError: its class names are of no label set, the fold is not held out, or no image of
            it has such a label.
    """
    check_held_out(config.ensemble, config.fold)
    manifest = load_manifest()
    members = manifest.ensemble(config.ensemble).members
    labels = label_set_of(manifest.file(members[0]).class_names)
    if labels is None:
        raise LungboxError(
            f"{config.ensemble}: no data set has labels of its classes, "
            f"{', '.join(manifest.file(members[0]).class_names)}"
        )
    images = datasets.as_opacity(datasets.load(config.data).folds([config.fold]))
    images = images.where(labels.is_known)
    if not images.images:
        raise DatasetError(
            f"{config.data}: no image of fold {config.fold} has a label of {config.ensemble}, "
            f"{', '.join(labels.class_names)}"
        )
    engine = config.start(console)
    parts = {}
    for source in datasets.INFOS:
        if len(part := images.of_source(source)):
            parts[datasets.info_of(source).title] = predict_with_progress(part, engine, console)
    return labels, parts


def label_tables(
    config: EvaluationConfig, console: Console, against: str | None = None
) -> list[tuple[str, tuple[str, ...], list[tuple[object, ...]]]]:
    """Title, columns and rows of a table of each data set; see `evaluate_labels`.

    Args:
        config: the ensemble and the fold.
        console: where progress is shown.
        against: another ensemble of the same labels, for paired differences.
    """
    labels, parts = evaluate_labels(config, console)
    if against is None:
        columns: tuple[str, ...] = ("AUC of", "value (95 % interval)", "images")
        others: dict[str, DatasetPredictions] = {}
    else:
        columns = ("AUC of", config.ensemble, against, "paired difference")
        if not is_classification(against):
            raise LungboxError(f"{against} is no ensemble of classification networks alone")
        their_labels, others = evaluate_labels(replace(config, ensemble=against), console)
        if their_labels != labels:
            raise LungboxError(f"{config.ensemble} and {against} have other labels")
    tables = []
    for name, part in parts.items():
        rows: list[tuple[object, ...]]
        figures = _estimates(labels, part)
        if against is None:
            rows = [(figure.name, figure, figure.images) for figure in figures]
        else:
            pairs = zip(figures, _estimates(labels, others[name]), strict=True)
            rows = [(ours.name, ours, theirs, ours - theirs) for ours, theirs in pairs]
        title = f"{name}, {len(part.dataset)} images of fold {config.fold}"
        tables.append((title, columns, rows))
    return tables


def _estimates(labels: LabelSet, part: DatasetPredictions) -> list[MetricEstimate]:
    """Of the labels; where the image score is none of them, also of that, for any label."""
    assert part.classes is not None  # of a classification network
    found = label_estimates(labels, part.dataset, part.classes)
    if labels.exclusive or len(labels.class_names) == 1:
        return found
    positive, known = labels.truth(part.dataset.images)
    rows: NDArray[np.bool_] = np.any(known, axis=1)
    truth: NDArray[np.bool_] = np.any(positive & known, axis=1)
    draws = draws_of(np.array([image.patient for image in part.dataset.images])[rows])
    estimate = draws.estimate(partial(weighted_auc, truth[rows], part.scores[rows]))
    name = f"image score, any finding, {truth.sum()} positive"
    return [*found, MetricEstimate.of(name, estimate, int(rows.sum()))]
