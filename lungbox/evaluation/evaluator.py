"""Evaluating an ensemble on a held-out fold, for `lungbox evaluate` and `lungbox report`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from lungbox import datasets
from lungbox.boxes import OperatingPoint
from lungbox.common.paths import cache_folder
from lungbox.common.progress import progress_bar
from lungbox.constants import FOLDS
from lungbox.datasets.types import LUNG_OPACITY, Dataset, DatasetError
from lungbox.engines import Engine, EngineName, PrecisionName, describe_precision
from lungbox.errors import LungboxError
from lungbox.evaluation.estimates import MetricEstimate
from lungbox.evaluation.groups import Group, all_images, groups
from lungbox.evaluation.operating_point import CrossFit, SearchGrid, cross_fit
from lungbox.evaluation.predictions import DatasetPredictions, predict_dataset
from lungbox.evaluation.scores import (
    ScoredPredictions,
    dataset_estimates,
    score_predictions,
)
from lungbox.evaluation.tuned import Tuned
from lungbox.inference.predictor import load
from lungbox.weights.calibration import Calibration
from lungbox.weights.manifest import load_manifest


@dataclass(frozen=True)
class EvaluationConfig:
    """An ensemble, and the fold it is evaluated on.

    Attributes:
        data: labelled radiographs.
        fold: held out from the training of every member.
        ensemble: a name in the manifest.
        engine: the inference engine.
        precision: the inference precision.
        operating_point: of the ensemble, by its name; its default one where empty.
        gate: replaces that point's gate, on the scale of the scores that are written.
    """

    data: Path
    fold: int
    ensemble: str
    engine: EngineName = "auto"
    precision: PrecisionName = "float32"
    operating_point: str = ""
    gate: float | None = None

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes of the ensemble's boxes."""
        return load_manifest().class_names(self.ensemble)

    def images(self) -> Dataset:
        """The fold's images; see `held_out_images`."""
        return held_out_images(self.ensemble, self.data, self.fold)

    def start(self, console: Console) -> Engine:
        """Start the engine; prints why a faster engine or precision is not used."""
        engine = load(self.ensemble, self.engine, 8, self.precision).engine
        if engine.config.notes:
            console.print(describe_precision(engine), markup=False)
        return engine


@dataclass(frozen=True)
class DatasetResult:
    """Predictions and scores of one data set of the fold.

    Attributes:
        predictions: of the networks.
        scored: at fitted operating points: the challenge's patients at the point chosen on the
            other patients, other data sets at the point chosen on all of the challenge's.
        at_own_point: at the ensemble's own point.
    """

    predictions: DatasetPredictions
    scored: ScoredPredictions
    at_own_point: ScoredPredictions

    @property
    def info(self) -> datasets.DatasetInfo:
        """The data set's registry entry."""
        return datasets.info_of(self.predictions.dataset.images[0].source)


@dataclass(frozen=True)
class EvaluationResult:
    """The evaluation of an ensemble on a held-out fold.

    Attributes:
        ensemble: its name in the manifest.
        fold: the fold.
        ran_on: `engine, precision`.
        fitted: the operating points chosen on the challenge's images.
        own: the ensemble's operating point in the manifest, or the requested one of them.
        own_calibration: of its image score in the manifest.
        tuned: the values for the manifest that are chosen on the challenge's images.
        challenge: the data set that operating points are chosen on; see
            `datasets.challenge_images`.
        others: the other data sets of the fold, by title.
    """

    ensemble: str
    fold: int
    ran_on: str
    fitted: CrossFit
    own: OperatingPoint
    own_calibration: Calibration | None
    tuned: Tuned
    challenge: DatasetResult
    others: dict[str, DatasetResult]

    @property
    def parts(self) -> dict[str, DatasetResult]:
        """The data sets by title, the challenge's first."""
        return {self.challenge.info.title: self.challenge, **self.others}


def evaluate_ensemble(config: EvaluationConfig, console: Console) -> EvaluationResult:
    """Predict a fold, choose operating points, and score the boxes.

    Args:
        config: the ensemble and the fold.
        console: where progress is shown.

    Raises:
        LungboxError: the data is missing, the fold is not held out, or the ensemble is of other
            findings than lung opacity, see `findings.evaluate_findings`.
    """
    check_of_opacity(config.ensemble)
    own, calibration = (
        load_manifest().ensemble(config.ensemble).settings(config.operating_point, config.gate)
    )
    images = config.images()
    engine = config.start(console)
    challenge, *others = (
        predict_with_progress(part, engine, console) for part in by_source(images)
    )
    fitted = cross_fit(challenge, SearchGrid().fusing_as(own))

    def result(predictions: DatasetPredictions, points: Sequence[OperatingPoint]) -> DatasetResult:
        return DatasetResult(
            predictions,
            score_predictions(predictions, points),
            score_predictions(predictions, (own,) * len(predictions.dataset)),
        )

    results = [
        result(other, (fitted.point,) * len(other.dataset)) for other in others if other.dataset
    ]

    return EvaluationResult(
        ensemble=config.ensemble,
        fold=config.fold,
        ran_on=f"{engine.name}, {engine.precision}",
        fitted=fitted,
        own=own,
        own_calibration=calibration,
        tuned=Tuned.on(challenge, fitted, config.fold),
        challenge=result(challenge, fitted.points),
        others={result.info.title: result for result in results},
    )


def by_source(images: Dataset) -> list[Dataset]:
    """The images of each data set: the challenge's, then the others as they are registered."""
    first = datasets.challenge_images(images)
    others = [*datasets.INFOS, *sorted(images.sources - set(datasets.INFOS))]
    parts = (images.of_source(name) for name in others if name not in first.sources)
    return [first, *(part for part in parts if part.images)]


def predict_with_progress(dataset: Dataset, engine: Engine, console: Console) -> DatasetPredictions:
    """An engine's predictions of a data set, with a progress bar."""
    augmented = engine.config.flip or engine.config.views
    text = "Predicting, with test-time augmentation" if augmented else "Predicting"
    with progress_bar(console, text, len(dataset)) as progress:
        return predict_dataset(dataset, engine, cache_folder(), advance=progress.advance)


def box_estimates_at_own_point(result: EvaluationResult) -> dict[str, list[MetricEstimate]]:
    """The metrics of boxes at the ensemble's own point, by data set."""
    return {
        name: [
            figure for figure in dataset_estimates(part.at_own_point) if "AUC" not in figure.name
        ]
        for name, part in result.parts.items()
    }


def all_groups(result: EvaluationResult) -> list[Group]:
    """Complete data sets, then the groups within each."""
    complete = [all_images(part.scored, "data set", name) for name, part in result.parts.items()]
    within = (group.under(n) for n, part in result.parts.items() for group in groups(part.scored))
    return [*complete, *within]


class TrainedOnError(LungboxError):
    """A fold is not held out, or it is not known whether it is."""


def held_out_images(ensemble: str, data: Path, fold: int) -> Dataset:
    """The images of a held-out fold; those that are neither positive nor negative are left out.

    Raises:
        TrainedOnError: a member of the ensemble was trained on the fold, or chosen by its score.
        DatasetError: the fold has no image of a challenge, or these lack their classes.
    """
    check_held_out(ensemble, fold)
    images = datasets.as_opacity(datasets.load(data).folds([fold])).where(
        lambda image: not image.uncertain
    )
    challenge = datasets.challenge_images(images)
    if not challenge.images:
        titles = " or ".join(info.title for info in datasets.INFOS.values() if info.mix)
        raise DatasetError(f"{data}: has no {titles} image in fold {fold}, whose metric this is")
    if not all(image.category for image in challenge.images):
        info = datasets.info_of(challenge.images[0].source)
        raise DatasetError(
            f"{data}: {info.title}'s figures are by class, and {info.categories_file}, which "
            "gives the classes, is missing or lacks images"
        )
    return images


def check_of_opacity(ensemble: str) -> None:
    """Check that the RSNA metric can be computed of an ensemble.

    Raises:
        LungboxError: its boxes are of other findings than lung opacity, or it has none.
    """
    if load_manifest().class_names(ensemble) != (LUNG_OPACITY,):
        raise LungboxError(
            f"{ensemble} does not predict boxes of lung opacity alone, so it has no RSNA metric; "
            "lungbox evaluate has the metrics of other ensembles"
        )


def check_held_out(ensemble: str, fold: int) -> None:
    """Check that no member of an ensemble has seen a fold.

    Raises:
        TrainedOnError: a member was trained on the fold, or chosen by its score.
        DatasetError: there is no such fold.
    """
    if not 0 <= fold < FOLDS:
        raise DatasetError(f"fold {fold}: folds are numbered 0 to {FOLDS - 1}")
    manifest = load_manifest()
    for member in manifest.ensemble(ensemble).members:
        _check_held_out(member, manifest.training_folds(member), fold)


def _check_held_out(member: str, trained_on: frozenset[int] | None, fold: int) -> None:
    if trained_on is None:
        raise TrainedOnError(
            f"it is not known which folds {member} was trained on, so no metric would mean "
            "anything; register it again with `weights add ... --replace --folds 1,2,3,4`"
        )
    if fold in trained_on:
        held_out = [str(other) for other in range(FOLDS) if other not in trained_on]
        raise TrainedOnError(
            f"{member} was trained on fold {fold}, or chosen by its score there; "
            + (f"give one of {', '.join(held_out)}" if held_out else "no fold is held out")
        )
