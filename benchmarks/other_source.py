"""How an ensemble does on a data set that it was not trained on:
python -m benchmarks.other_source --data DIR --left-out vinbigdata --ensemble A --ensemble B.

An ensemble meets images of another hospital with a gate that was chosen on its own data. So the
gate is the image score below which the boxes of 90 % of the negative images of the other data sets
are withheld, each data set counting alike, and the data set that is left out is scored at it:
AUC of the image score, sensitivity (images with an opacity that get a box), specificity (images
without that get none). Differences to the first ensemble are paired, by bootstrap over patients.
"""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal, get_args

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console

from benchmarks.image_scores import top_mean
from lungbox import datasets
from lungbox.boxes import OperatingPoint
from lungbox.common.paths import cache_folder
from lungbox.datasets import Dataset
from lungbox.evaluation.estimates import MetricEstimate, draws_of
from lungbox.evaluation.evaluator import held_out_images
from lungbox.evaluation.predictions import DatasetPredictions, predict_dataset
from lungbox.inference.predictor import load
from lungbox.metrics.classification import weighted_auc

SPECIFICITY = 0.9
POINT = OperatingPoint("threshold", 0.4, min_area=0.01, shrink=0.0625)
# Data sets whose fold 0 has images with and without opacity.
Source = Literal["rsna", "siim", "vinbigdata"]
SOURCES: tuple[Source, ...] = get_args(Source)
COLUMNS = ("AUC", "AUC against normal", "AUC against abnormal", "sensitivity", "specificity")


def main(
    data: Annotated[Path, typer.Option(help="Labelled radiographs, of several data sets.")],
    left_out: Annotated[Source, typer.Option(help="The data set that no ensemble was trained on.")],
    ensemble: Annotated[list[str], typer.Option(help="Ensembles, the first is compared with.")],
    fold: Annotated[int, typer.Option(help="A fold that no member was trained on.")] = 0,
    mask: Annotated[bool, typer.Option(help="Score by the mask's top 5 % of pixels.")] = False,
) -> None:
    """Print a table with a row for each ensemble."""
    console = Console()
    console.print(f"| {left_out} | {' | '.join(COLUMNS)} |", markup=False, soft_wrap=True)
    console.print("| --- |" + " --: |" * len(COLUMNS))
    first: list[MetricEstimate] = []
    for name in ensemble:
        images = held_out_images(name, data, fold)
        predicted = [_predict(name, images.of_source(source), mask) for source in SOURCES]
        of = dict(zip(SOURCES, predicted, strict=True))
        gate = chosen_gate([of[source] for source in SOURCES if source != left_out])
        found = estimates(of[left_out], gate)
        first = first or found
        cells = [_cell(one, other) for one, other in zip(found, first, strict=True)]
        console.print(f"| {name} | {' | '.join(cells)} |", markup=False, soft_wrap=True)


def _predict(name: str, images: Dataset, mask: bool) -> DatasetPredictions:
    engine = load(name, batch_size=8, precision="float32").engine
    found = predict_dataset(images, engine, cache_folder())
    if mask and found.opacity is not None:
        return replace(found, scores=top_mean(found.opacity, 0.05))
    return found


def chosen_gate(others: list[DatasetPredictions]) -> float:
    """The score below which the boxes of `SPECIFICITY` of the negatives are withheld."""
    scores, weights = [], []
    for predictions in others:
        negative = ~_targets(predictions)
        scores.append(np.where(has_box(predictions), predictions.scores, 0.0)[negative])
        weights.append(np.full(negative.sum(), 1 / negative.sum()))
    values, shares = np.concatenate(scores), np.concatenate(weights)
    order = np.argsort(values)
    below = np.cumsum(shares[order]) / shares.sum()
    return float(np.nextafter(values[order][np.searchsorted(below, SPECIFICITY)], 1.0))


def has_box(predictions: DatasetPredictions) -> NDArray[np.bool_]:
    """`(N,)`: whether an image has a box at `POINT`, which has no gate."""
    rows = range(len(predictions.dataset))
    return np.array([len(predictions.boxes(row, POINT).boxes) > 0 for row in rows])


def estimates(predictions: DatasetPredictions, gate: float) -> list[MetricEstimate]:
    """The values of `COLUMNS`; NaN where the data set has no such class."""
    images = predictions.dataset.images
    target, scores = _targets(predictions), predictions.scores
    boxed = has_box(predictions) & (scores >= gate)
    negatives = datasets.info_of(images[0].source).negatives
    category = np.array([image.category for image in images])
    normal = category == negatives.get("normal")
    draws = draws_of(np.array([image.patient for image in images]))

    def share(of: NDArray[np.bool_], right: NDArray[np.bool_], drawn: NDArray) -> NDArray:
        return (drawn * of * right).sum(axis=1) / (drawn * of).sum(axis=1)

    def area(against: NDArray[np.bool_], drawn: NDArray) -> NDArray:
        return weighted_auc(target, scores, drawn * (target | against))

    values = (
        draws.estimate(lambda drawn: area(~target, drawn)),
        draws.estimate(lambda drawn: area(~target & normal, drawn)),
        draws.estimate(lambda drawn: area(~target & ~normal, drawn)),
        draws.estimate(lambda drawn: share(target, boxed, drawn)),
        draws.estimate(lambda drawn: share(~target, ~boxed, drawn)),
    )
    return [MetricEstimate.of(n, v, len(images)) for n, v in zip(COLUMNS, values, strict=True)]


def _targets(predictions: DatasetPredictions) -> NDArray[np.bool_]:
    return np.array([image.target for image in predictions.dataset.images], bool)


def _cell(estimate: MetricEstimate, first: MetricEstimate) -> str:
    """The value with its interval; of others than the first with the difference to it."""
    if estimate is first or np.isnan(estimate.value):
        return f"{estimate.rounded} ({estimate.interval})"
    difference = estimate - first
    return f"{estimate.rounded} ({difference.value:+.3f}, {difference.interval})"


if __name__ == "__main__":
    typer.run(main)
