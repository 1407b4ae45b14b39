"""Everything `lungbox evaluate` and `lungbox report` say comes from here: an ensemble on a fold."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from lungbox import datasets
from lungbox.boxes import OperatingPoint
from lungbox.common.paths import cache_folder
from lungbox.common.progress import progress_bar
from lungbox.constants import FOLDS
from lungbox.datasets.types import Dataset, DatasetError
from lungbox.engines import Engine, EngineName, PrecisionName, describe_precision
from lungbox.errors import LungboxError
from lungbox.evaluation.estimates import MetricEstimate
from lungbox.evaluation.groups import Group, groups, whole
from lungbox.evaluation.operating_point import CrossFit, SearchGrid, cross_fit
from lungbox.evaluation.predictions import DatasetPredictions, predict_dataset
from lungbox.evaluation.scores import (
    ScoredPredictions,
    dataset_estimates,
    score_predictions,
)
from lungbox.inference.predictor import load
from lungbox.weights.manifest import load_manifest


@dataclass(frozen=True)
class EvaluationConfig:
    """An ensemble, and the fold it is assessed on.

    Attributes:
        data: labelled radiographs.
        fold: one that no member of the ensemble has seen.
        ensemble: a name in the manifest.
        engine: what runs it.
        precision: the type it computes in.
    """

    data: Path
    fold: int
    ensemble: str
    engine: EngineName = "auto"
    precision: PrecisionName = "float32"

    def images(self) -> Dataset:
        """The fold's images; see `held_out_images`."""
        return held_out_images(self.ensemble, self.data, self.fold)

    def start(self, console: Console) -> Engine:
        """What runs the ensemble, started; it is said where something faster was not taken."""
        running = load(self.ensemble, self.engine, 8, self.precision).engine
        if running.config.notes:
            console.print(describe_precision(running), markup=False)
        return running


@dataclass(frozen=True)
class DatasetResult:
    """One data set of the fold, predicted and judged.

    Attributes:
        predictions: what the networks say.
        scored: the challenge's patients at the point chosen on the others, other data sets at
            the one chosen on all of the challenge's.
        at_own_point: all of them at the ensemble's own point.
    """

    predictions: DatasetPredictions
    scored: ScoredPredictions
    at_own_point: ScoredPredictions

    @property
    def info(self) -> datasets.DatasetInfo:
        """The declaration of the data set."""
        return datasets.info_of(self.predictions.dataset.images[0].source)


@dataclass(frozen=True)
class EvaluationResult:
    """An ensemble on a fold that its weights have not seen.

    Attributes:
        ensemble: its name in the manifest.
        fold: the fold.
        ran_on: what ran it, as `engine, precision`.
        fitted: the operating points chosen on the challenge's images.
        own: the ensemble's own, as the manifest has it.
        challenge: the data set that operating points are chosen on; see
            `datasets.challenge_images`.
        others: the other data sets of the fold, by title.
    """

    ensemble: str
    fold: int
    ran_on: str
    fitted: CrossFit
    own: OperatingPoint
    challenge: DatasetResult
    others: dict[str, DatasetResult]

    @property
    def parts(self) -> dict[str, DatasetResult]:
        """The data sets by title, the challenge's first."""
        return {self.challenge.info.title: self.challenge, **self.others}


def evaluate_ensemble(config: EvaluationConfig, console: Console) -> EvaluationResult:
    """Predict a fold, choose operating points, judge.

    Args:
        config: what is assessed.
        console: where progress is shown.

    Raises:
        LungboxError: the data is not there, or the weights have seen the fold.
    """
    images = config.images()
    running = config.start(console)
    challenge, *others = (
        predict_with_progress(part, running, console) for part in _by_source(images)
    )
    fitted = cross_fit(challenge, SearchGrid())
    own = load_manifest().ensemble(config.ensemble).point

    def part(predictions: DatasetPredictions, points: Sequence[OperatingPoint]) -> DatasetResult:
        return DatasetResult(
            predictions,
            score_predictions(predictions, points),
            score_predictions(predictions, (own,) * len(predictions.dataset)),
        )

    return EvaluationResult(
        ensemble=config.ensemble,
        fold=config.fold,
        ran_on=f"{running.name}, {running.precision}",
        fitted=fitted,
        own=own,
        challenge=part(challenge, fitted.points),
        others={
            result.info.title: result
            for other in others
            if len(other.dataset)
            for result in [part(other, (fitted.point,) * len(other.dataset))]
        },
    )


def _by_source(images: Dataset) -> list[Dataset]:
    """The images of each data set: the challenge's, then the others as they are registered."""
    first = datasets.challenge_images(images)
    others = [*datasets.INFOS, *sorted(images.sources - set(datasets.INFOS))]
    parts = (images.of_source(name) for name in others if name not in first.sources)
    return [first, *(part for part in parts if part.images)]


def predict_with_progress(dataset: Dataset, engine: Engine, console: Console) -> DatasetPredictions:
    """An engine's predictions of a data set, with a progress bar."""
    doing = "Running, mirrored too" if engine.config.flip else "Running"
    with progress_bar(console, doing, len(dataset)) as progress:
        return predict_dataset(dataset, engine, cache_folder(), running=progress.advance)


def box_estimates_at_own_point(found: EvaluationResult) -> dict[str, list[MetricEstimate]]:
    """The figures of boxes, at the ensemble's own point, by data set."""
    return {
        name: [
            figure for figure in dataset_estimates(part.at_own_point) if "AUC" not in figure.name
        ]
        for name, part in found.parts.items()
    }


def all_groups(found: EvaluationResult) -> list[Group]:
    """Data sets as a whole, then the groups within each."""
    wholes = [whole(part.scored, "data set", name) for name, part in found.parts.items()]
    within = [(name, group) for name, part in found.parts.items() for group in groups(part.scored)]
    return wholes + [group.under(name) for name, group in within]


class TrainedOnError(LungboxError):
    """The weights have seen the images they are to be scored on, or nobody knows."""


def held_out_images(ensemble: str, data: Path, fold: int) -> Dataset:
    """The images of a fold; those that are neither positive nor negative are left out.

    Raises:
        TrainedOnError: a member of the ensemble was trained on the fold, or chosen by it.
        DatasetError: there are none of the challenge, or these lack their classes.
    """
    if not 0 <= fold < FOLDS:
        raise DatasetError(f"fold {fold}: folds are numbered 0 to {FOLDS - 1}")
    manifest = load_manifest()
    for member in manifest.ensemble(ensemble).members:
        _check_held_out(member, manifest.training_folds(member), fold)
    images = datasets.load(data).folds([fold]).where(lambda image: not image.uncertain)
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


def _check_held_out(member: str, seen: frozenset[int] | None, fold: int) -> None:
    if seen is None:
        raise TrainedOnError(
            f"it is not known which folds {member} was trained on, so no figure would mean "
            "anything; enter it anew with `weights add ... --replace --folds 1,2,3,4`"
        )
    if fold in seen:
        unseen = [str(other) for other in range(FOLDS) if other not in seen]
        raise TrainedOnError(
            f"{member} was trained on fold {fold}, or chosen by its score there; "
            + (f"give one of {', '.join(unseen)}" if unseen else "and has seen all others")
        )
