"""Ablation of a recipe: python -m benchmarks.ablation --data DIR --runs FOLDER.

Short runs of the default's recipe (128 px, batches of 16, four epochs of half the images), whole
and with one thing taken away, each scored on fold 0 by `evaluate`'s rule (cross-fitted), with lower
thresholds: masks are not yet sure of themselves after 704 steps. Short runs rank ingredients that
show early; those that prevent overfitting need the whole recipe. A run that is there already is not
run again.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from lungbox.common.backend import start_keras
from lungbox.datasets import challenge_images
from lungbox.evaluation.estimates import MetricEstimate
from lungbox.evaluation.evaluator import EvaluationConfig, predict_with_progress
from lungbox.evaluation.operating_point import SearchGrid, cross_fit
from lungbox.evaluation.scores import (
    AGAINST_NORMAL,
    AGAINST_NOT_NORMAL,
    AT_MIX,
    RAW,
    ScoredPredictions,
    dataset_estimates,
    score_predictions,
)

RECIPE = Path("recipes/lite0.toml")
SHORT = (
    "batch_size=16",
    "data.samples_per_epoch=2816",
    "stages=[{ epochs = 4, image_size = 128 }]",
)
GRID = SearchGrid(thresholds=(0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5))
WITHOUT: dict[str, tuple[str, ...]] = {
    "whole": (),
    "ImageNet's encoder weights": ("encoder_weights=none", "optimizer.encoder_learning_rate=1e-3"),
    "equalised contrast": ("data.preparation=nearest",),
    "augmentation": ("augmentation.enabled=false",),
    "SIIM-COVID's images": ("data.source_weights={ rsna = 1.0, siim = 0.0 }",),
    "balance of view and target": ("data.balance=[]",),
    "hard negatives drawn three times": ("data.category_weights={}",),
    "IoU (cross-entropy alone)": ("loss.iou=0", "loss.bce=1"),
    "cross-entropy (IoU alone)": ("loss.iou=1", "loss.bce=0"),
    "image head's loss": ("loss.image=0",),
    "moving average": ("optimizer.ema=0",),
    "edge maps' absence (with them)": ("loss.edges=0.5",),
    "three quarters of the image head's loss": ("loss.image=0.25",),
    "nine tenths of the image head's loss": ("loss.image=0.1",),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--runs", type=Path, required=True)
    arguments = parser.parse_args()
    start_keras()
    console = Console(stderr=True)
    print("| without | RSNA metric, raw | difference | challenge's mix | AUC normal | not normal |")
    print("| --- | --- | --- | --- | --- | --- |")
    complete: dict[str, MetricEstimate] = {}
    for name, scored in _runs(arguments.data, arguments.runs, console):
        figures = {figure.name: figure for figure in dataset_estimates(scored)}
        complete = complete or figures
        change = str(figures[RAW] - complete[RAW]) if figures is not complete else ""
        rest = (figures[each].rounded for each in (AT_MIX, AGAINST_NORMAL, AGAINST_NOT_NORMAL))
        print("| " + " | ".join([name, str(figures[RAW]), change, *rest]) + " |", flush=True)


def _runs(data: Path, folder: Path, console: Console) -> Iterator[tuple[str, ScoredPredictions]]:
    from lungbox.training.recipe import TrainingConfig
    from lungbox.training.run import run

    for index, (name, changes) in enumerate(WITHOUT.items()):
        named = (f"name=ablation-{index}", *SHORT, *changes)
        ensemble = run(TrainingConfig(RECIPE, data, folder / str(index), named), console)
        config = EvaluationConfig(data, 0, ensemble)
        images = challenge_images(config.images())
        predictions = predict_with_progress(images, config.start(console), console)
        yield name, score_predictions(predictions, cross_fit(predictions, GRID).points)


if __name__ == "__main__":
    main()
