"""`lungbox tune`: search the best operating point of an ensemble, and estimate its metric."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from rich.console import Console
from rich.table import Table

from lungbox.boxes import OperatingPoint
from lungbox.common.progress import progress_bar
from lungbox.datasets import DatasetError, challenge_images, info_of
from lungbox.errors import LungboxError
from lungbox.evaluation.estimates import MetricEstimate
from lungbox.evaluation.evaluator import EvaluationConfig, predict_with_progress
from lungbox.evaluation.operating_point import (
    WIDE_GRID,
    CrossFit,
    SearchGrid,
    cross_fit,
    has_mix,
)
from lungbox.evaluation.predictions import DatasetPredictions
from lungbox.evaluation.scores import metric_at_mix, score_predictions
from lungbox.evaluation.tuned import Tuned
from lungbox.weights.entries import Ensemble
from lungbox.weights.manifest import (
    check_name,
    load_manifest,
    read_manifest,
    register_ensemble,
    shipped_path,
)

# A more complex or slower choice must gain at least this much; a fold's noise is larger than less.
MIN_GAIN = 0.01


@dataclass(frozen=True)
class TuningCandidate:
    """An operating point with its estimated metric.

    Attributes:
        name: what was searched.
        point: the operating point chosen on all images.
        flip: whether it uses horizontal-flip test-time augmentation.
        estimate: the RSNA metric at the challenge's mix; cross-fitted where a search chose it.
        points: for each image, the point chosen on the other patients.
    """

    name: str
    point: OperatingPoint
    flip: bool
    estimate: MetricEstimate
    points: tuple[OperatingPoint, ...] = ()


def tune(config: EvaluationConfig, save: str | None, console: Console) -> TuningCandidate:
    """Search operating points, print their metrics, and register the best.

    Args:
        config: the ensemble, and the fold it is tuned on.
        save: the name of the ensemble to register; the ensemble's own where None, unless it comes
            with Lungbox, whose result is only shown.
        console: where progress is shown.

    Raises:
        LungboxError: the data is missing, or the fold is not held out.
    """
    name, fold = config.ensemble, config.fold
    ensemble = load_manifest().ensemble(name)
    if ensemble.compatibility == "reference":
        raise LungboxError(f"{name} repeats the reference system, whose values are fixed")
    if save:
        check_name(save)  # before the search, not after it
    predictions = _both_predictions(config, console)
    candidates = _candidates(predictions, ensemble, console)
    _show(candidates, fold)
    best = best_candidate(candidates)
    tuned = Tuned.on(predictions[best.flip], CrossFit(best.point, best.points), fold)
    flip = "flip = true\n" if best.flip else ""
    print(f"\nChosen: {best.name}\n\n{flip}{tuned.to_toml(save or name)}\n")
    for sentence in tuned.notes():
        console.print(sentence, markup=False)
    if not save and (best.estimate - candidates[0].estimate).high < 0:
        console.print(f"It scores lower than {name}'s own point, which stays.", markup=False)
    elif not save and name in read_manifest(shipped_path()).ensembles:
        console.print(f"{name} comes with Lungbox; --save NAME registers this as one of yours.")
    else:
        saved = save or name
        note = f"`python -m lungbox tune` on fold {fold}: {best.estimate}, cross-fitted, the best "
        note += "of three searches"
        register_ensemble(saved, tuned.changed(ensemble, flip=best.flip, note=note))
        console.print(
            f"Registered: python -m lungbox predict IMAGE_DIR --ensemble {saved}", markup=False
        )
    return best


def best_candidate(candidates: list[TuningCandidate]) -> TuningCandidate:
    """The first after the present point, unless a later one scores at least 0.01 more."""
    best = candidates[1]
    for candidate in candidates[2:]:
        if candidate.estimate.value - best.estimate.value >= MIN_GAIN:
            best = candidate
    return best


def _candidates(
    predictions: tuple[DatasetPredictions, DatasetPredictions], ensemble: Ensemble, console: Console
) -> list[TuningCandidate]:
    """The ensemble's present point, then one of each search."""
    plain, flipped = predictions

    def candidate(
        name: str, flip: bool, point: OperatingPoint, points: Sequence[OperatingPoint]
    ) -> TuningCandidate:
        scored = score_predictions(flipped if flip else plain, points)
        return TuningCandidate(name, point, flip, metric_at_mix(scored, name), tuple(points))

    present = (ensemble.point,) * len(plain.dataset)
    candidates = [candidate("as it is", ensemble.flip, ensemble.point, present)]
    for name, grid, flip in (
        ("threshold, area, shrink, gate", SearchGrid(), False),
        ("everything", WIDE_GRID, False),
        ("everything, with test-time augmentation", WIDE_GRID, True),
    ):
        searched = grid.fitting(plain).fusing_as(ensemble.point)
        with progress_bar(console, f"Searching: {name}", len(searched.points())) as progress:
            fitted = cross_fit(flipped if flip else plain, searched, advance=progress.advance)
        candidates.append(candidate(name, flip, fitted.point, fitted.points))
    return candidates


def _both_predictions(
    config: EvaluationConfig, console: Console
) -> tuple[DatasetPredictions, DatasetPredictions]:
    """Predictions of the fold's challenge images, without and with test-time augmentation."""
    dataset = challenge_images(config.images())
    if not has_mix(dataset):
        title = info_of(dataset.images[0].source).title
        raise DatasetError(
            f"{config.data}: fold {config.fold} lacks one of {title}'s classes, so there is "
            "no challenge's mix to tune for"
        )
    engine = config.start(console)

    def predictions(flip: bool) -> DatasetPredictions:
        engine.config = replace(engine.config, flip=flip)
        return predict_with_progress(dataset, engine, console)

    return predictions(False), predictions(True)


def _show(candidates: list[TuningCandidate], fold: int) -> None:
    table = Table(
        "searched over",
        "metric (95 % interval)",
        "difference to as it is",
        title=f"RSNA metric at the challenge's mix, fold {fold}",
    )
    for candidate in candidates:
        change = candidate.estimate - candidates[0].estimate
        table.add_row(candidate.name, str(candidate.estimate), str(change) if change.value else "")
    console = Console(highlight=False)
    console.print(table)
    console.print(
        "Searches are cross-fitted: each patient's boxes come from the point chosen on the others. "
        "The present point may have been chosen on these very patients."
    )
