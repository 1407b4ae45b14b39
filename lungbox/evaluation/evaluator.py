"""Everything `lungbox evaluate` and `lungbox report` say comes from here: an ensemble on a fold."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from lungbox.boxes import OperatingPoint
from lungbox.common.paths import cache_folder
from lungbox.common.progress import progress_bar
from lungbox.datasets.types import Dataset
from lungbox.engines import Engine, EngineName, PrecisionName, describe_precision
from lungbox.evaluation.estimates import MetricEstimate
from lungbox.evaluation.groups import Group, groups, whole
from lungbox.evaluation.held_out import held_out_images
from lungbox.evaluation.operating_point import CrossFit, SearchGrid, cross_fit
from lungbox.evaluation.predictions import DatasetPredictions, predict_dataset
from lungbox.evaluation.scores import (
    ScoredPredictions,
    rsna_estimates,
    score_predictions,
    siim_estimates,
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
        scored: RSNA's patients at the point chosen on the others, SIIM-COVID at the one chosen
            on all of RSNA's.
        at_own_point: all of them at the ensemble's own point.
    """

    predictions: DatasetPredictions
    scored: ScoredPredictions
    at_own_point: ScoredPredictions


@dataclass(frozen=True)
class EvaluationResult:
    """An ensemble on a fold that its weights have not seen.

    Attributes:
        ensemble: its name in the manifest.
        fold: the fold.
        ran_on: what ran it, as `engine, precision`.
        fitted: the operating points chosen on RSNA's images.
        own: the ensemble's own, as the manifest has it.
        rsna: the part that operating points are chosen on.
        siim: None where there are no such images.
    """

    ensemble: str
    fold: int
    ran_on: str
    fitted: CrossFit
    own: OperatingPoint
    rsna: DatasetResult
    siim: DatasetResult | None

    @property
    def parts(self) -> dict[str, DatasetResult]:
        """The data sets by the names they are shown under."""
        named = {"RSNA": self.rsna, "SIIM-COVID": self.siim}
        return {name: part for name, part in named.items() if part}


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
    rsna, siim = (
        predict_with_progress(images.of_source(source), running, console)
        for source in ("rsna", "siim")
    )
    fitted = cross_fit(rsna, SearchGrid())
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
        rsna=part(rsna, fitted.points),
        siim=part(siim, (fitted.point,) * len(siim.dataset)) if len(siim.dataset) else None,
    )


def predict_with_progress(dataset: Dataset, engine: Engine, console: Console) -> DatasetPredictions:
    """What an engine says of a data set, with a bar while it is asked."""
    doing = "Running, mirrored too" if engine.config.flip else "Running"
    with progress_bar(console, doing, len(dataset)) as progress:
        return predict_dataset(dataset, engine, cache_folder(), running=progress.advance)


def dataset_estimates(name: str, scored: ScoredPredictions) -> list[MetricEstimate]:
    """The figures a data set is judged by."""
    return rsna_estimates(scored) if name == "RSNA" else siim_estimates(scored)


def box_estimates_at_own_point(found: EvaluationResult) -> dict[str, list[MetricEstimate]]:
    """The figures of boxes, at the ensemble's own point, by data set."""
    return {
        name: [
            figure
            for figure in dataset_estimates(name, part.at_own_point)
            if "AUC" not in figure.name
        ]
        for name, part in found.parts.items()
    }


def all_groups(found: EvaluationResult) -> list[Group]:
    """Data sets as a whole, then the groups within each."""
    wholes = [whole(part.scored, "data set", name) for name, part in found.parts.items()]
    within = [(name, group) for name, part in found.parts.items() for group in groups(part.scored)]
    return wholes + [group.under(name) for name, group in within]
