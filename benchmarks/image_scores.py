"""Which image score ranks radiographs best: python -m benchmarks.image_scores --data DIR.

Candidates are the image head, the mask's own evidence (its mean, and the mean of its most certain
pixels), and logistic regressions of both, fitted on other patients. Each is the gate of a
cross-fitted operating point. Intervals of the differences to the image head are paired, by
bootstrap over patients. Only the challenge's images are scored, on folds that no member was
trained on. With `{fold}` in its name, an ensemble stands for five, one for each fold, whose
out-of-fold predictions are scored together: `--ensemble "lite0-{fold}"`.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from sklearn.linear_model import LogisticRegression

from lungbox import datasets
from lungbox.common.paths import cache_folder
from lungbox.constants import FOLDS
from lungbox.errors import LungboxError
from lungbox.evaluation.estimates import MetricEstimate, draws_of
from lungbox.evaluation.evaluator import held_out_images
from lungbox.evaluation.operating_point import (
    PARTS,
    SearchGrid,
    cross_fit,
    mix_weights,
    patient_parts,
)
from lungbox.evaluation.predictions import DatasetPredictions, predict_dataset
from lungbox.evaluation.scores import (
    AGAINST_NORMAL,
    AGAINST_NOT_NORMAL,
    AT_MIX,
    RAW,
    dataset_estimates,
    score_predictions,
)
from lungbox.inference.predictor import load
from lungbox.metrics.classification import weighted_auc

SHARES = (0.005, 0.02, 0.05, 0.1, 1.0)
HEAD, MIX_AUC = "image head", "AUC at the mix"
Estimates = dict[str, MetricEstimate]


def main(
    data: Annotated[Path, typer.Option(help="Labelled radiographs, RSNA's among them.")],
    fold: Annotated[int, typer.Option(help="A fold that no member was trained on.")] = 0,
    ensemble: Annotated[list[str], typer.Option(help="Ensembles to compare.")] = ["default"],  # noqa: B006
) -> None:
    """Print a table for each ensemble."""
    console = Console()
    for name in ensemble:
        pooled = "{fold}" in name
        folds = range(FOLDS) if pooled else [fold]
        predictions = joined([_predict(name.format(fold=one), data, one) for one in folds])
        of = "all folds" if pooled else f"fold {fold}"
        console.print(f"\n{name}, {len(predictions.dataset)} images of {of}\n", markup=False)
        columns = [MIX_AUC, AGAINST_NOT_NORMAL, AGAINST_NORMAL, RAW, AT_MIX]
        console.print(f"| image score | {' | '.join(columns)} |", markup=False)
        console.print("| --- |" + " --: |" * len(columns))
        head: Estimates = {}
        for candidate, scores in candidates(predictions):
            found = estimates(replace(predictions, scores=scores))
            head = head or found
            cells = [_cell(found[column], head[column]) for column in columns]
            console.print(f"| {candidate} | {' | '.join(cells)} |", markup=False, soft_wrap=True)


def _predict(name: str, data: Path, fold: int) -> DatasetPredictions:
    images = datasets.challenge_images(held_out_images(name, data, fold))
    engine = load(name, batch_size=8, precision="float32").engine
    return predict_dataset(images, engine, cache_folder())


def joined(parts: list[DatasetPredictions]) -> DatasetPredictions:
    """The predictions of several segmentation networks, each of other images, as one."""
    if any(part.opacity is None for part in parts):
        raise LungboxError("the ensemble has no segmentation network, so no mask to score")
    first, *others = (part.dataset for part in parts)
    return DatasetPredictions(
        dataset=sum(others, first),
        opacity=np.concatenate([part.opacity for part in parts if part.opacity is not None]),
        scores=np.concatenate([part.scores for part in parts]),
    )


def candidates(predictions: DatasetPredictions) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """The names and the image scores `(N,)`, 0-1, of each candidate."""
    if predictions.opacity is None:
        raise LungboxError("the ensemble has no segmentation network, so no mask to score")
    yield HEAD, predictions.scores
    of_mask = {share: top_mean(predictions.opacity, share) for share in SHARES}
    for share, scores in of_mask.items():
        name = "mask, mean" if share == 1 else f"mask, top {100 * share:g} % of its pixels"
        yield name, scores
    head = predictions.scores
    yield "regression: head, top 5 %", regress(predictions, [head, of_mask[0.05]])
    yield "regression: masks", regress(predictions, list(of_mask.values()))
    yield "regression: head, masks", regress(predictions, [head, *of_mask.values()])


def top_mean(opacity: NDArray[np.uint8], share: float) -> NDArray[np.float32]:
    """`(N,)`: the mean probability of the most certain `share` of the pixels of `(N, h, w)`."""
    flat = opacity.reshape(len(opacity), -1).astype(np.float32) / 255
    count = max(1, round(share * flat.shape[1]))
    return np.sort(flat, axis=1)[:, -count:].mean(axis=1)


def regress(
    predictions: DatasetPredictions, features: list[NDArray[np.float32]]
) -> NDArray[np.float32]:
    """Scores `(N,)` by logistic regression on the features' logits at the challenge's mix, each
    patient's fitted on the others."""
    x = np.stack([_logit(values) for values in features], axis=1)
    y = np.array([image.target for image in predictions.dataset.images])
    weights = mix_weights(predictions.dataset)
    parts = patient_parts(predictions.dataset, PARTS, seed=2024)
    scores = np.zeros(len(y), np.float32)
    for part in range(PARTS):
        fitted_on, scored = parts != part, parts == part
        model = LogisticRegression(C=1.0, max_iter=1000)
        share = weights[fitted_on] / weights[fitted_on].mean()
        model.fit(x[fitted_on], y[fitted_on], sample_weight=share)
        scores[scored] = model.predict_proba(x[scored])[:, 1]
    return scores


def estimates(predictions: DatasetPredictions) -> Estimates:
    """Metrics by name, with the image scores as the gate of a cross-fitted operating point."""
    scored = score_predictions(predictions, cross_fit(predictions, SearchGrid()).points)
    found = {estimate.name: estimate for estimate in dataset_estimates(scored)}
    target = np.array([image.target for image in predictions.dataset.images])
    weights = mix_weights(predictions.dataset)
    draws = draws_of(np.array([image.patient for image in predictions.dataset.images]))
    at_mix = draws.estimate(
        lambda drawn: weighted_auc(target, scored.image_scores, drawn * weights)
    )
    found[MIX_AUC] = MetricEstimate.of(MIX_AUC, at_mix, len(target))
    return found


def _logit(scores: NDArray[np.float32]) -> NDArray[np.float64]:
    inside = np.clip(scores.astype(np.float64), 1e-4, 1 - 1e-4)
    return np.log(inside / (1 - inside))


def _cell(estimate: MetricEstimate, head: MetricEstimate) -> str:
    """The value, with its interval of the image head, with that of the difference of others."""
    if estimate is head:
        return f"{estimate.rounded} ({estimate.interval})"
    difference = estimate - head
    return f"{estimate.rounded} ({difference.value:+.3f}, {difference.interval})"


if __name__ == "__main__":
    typer.run(main)
