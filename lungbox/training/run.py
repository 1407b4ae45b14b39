"""`lungbox train` and `distill`: run on the terminal, and register the weights in the manifest."""

import hashlib
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from lungbox import architecture, datasets
from lungbox.common.files import atomic_write
from lungbox.constants import FOLDS
from lungbox.evaluation.evaluator import predict_with_progress
from lungbox.inference.predictor import load
from lungbox.training import loop
from lungbox.training.distillation import training_folds_of
from lungbox.training.initial_weights import initial_folds
from lungbox.training.loggers import best_epoch, read_log
from lungbox.training.progress import TerminalProgress
from lungbox.training.recipe import Recipe, RecipeError, TrainingConfig
from lungbox.training.run_folder import RunFolder
from lungbox.weights.entries import Ensemble, Weights
from lungbox.weights.manifest import register, register_ensemble
from lungbox.weights.store import sha256

_UNTUNED = "not tuned: run `python -m lungbox tune` on a fold it was not trained on"


def run(config: TrainingConfig, console: Console) -> str:
    """Train with progress on the terminal, and register the weights under a new name.

    Returns:
        The name of the weights, and of the ensemble of them alone.

    Raises:
        LungboxError: the recipe, the data or the encoder's weights are invalid or missing.
    """
    recipe = config.load_recipe()
    before = initial_folds(recipe)  # while the file is there
    with ExitStack() as stack:
        path = loop.train(config, TerminalProgress(console, stack))
    name = _register(recipe, config, path, before)
    _print_registered(name, console)
    return name


def run_all_folds(config: TrainingConfig, console: Console) -> str:
    """Train a network for each fold on all others, and save its predictions of that fold.

    The runs are folders `fold-K` in the configured one; `out_of_fold.npz` beside them holds the
    out-of-fold predictions of all images.

    Returns:
        The name of the ensemble of all of them.

    Raises:
        LungboxError: as `run`, or a network would have seen the fold it is to predict.
    """
    recipe = config.load_recipe()
    if recipe.validation.patience:
        raise RecipeError("--folds all: without patience, by which each fold would choose weights")
    if recipe.distillation and training_folds_of(recipe.distillation.teacher):
        raise RecipeError(
            f"--folds all: {recipe.distillation.teacher}, the teacher, was trained on folds that "
            "its students are to predict"
        )
    if initial_folds(recipe) != frozenset():
        given = recipe.initial_weights or recipe.encoder_name
        raise RecipeError(
            f"--folds all: the initial weights {given} were trained on folds that the networks are "
            "to predict, or on unknown ones"
        )
    folder = config.folder(recipe)
    names = []
    for fold in range(FOLDS):
        others = [other for other in range(FOLDS) if other != fold]
        changes = [f"data.folds={others}", f"name='{recipe.name}-fold{fold}'"]
        if recipe.validation.fold is not None:
            changes.append(f"validation.fold={fold}")
        console.print(f"Fold {fold}: training on the others", markup=False)
        of_fold = replace(config, run=folder / f"fold-{fold}", changes=(*config.changes, *changes))
        names.append(run(of_fold, console))
    path = save_out_of_fold_predictions(names, config.data, folder / "out_of_fold.npz", console)
    digest = hashlib.sha256(" ".join(names).encode()).hexdigest()[:8]
    name = f"{recipe.label}-folds-{digest}"
    alone = _alone(names[0], recipe)
    register_ensemble(name, alone.model_copy(update={"members": tuple(names)}))
    console.print(f"{path}: out-of-fold predictions of all images", markup=False)
    _print_registered(name, console)
    return name


def save_out_of_fold_predictions(
    names: Sequence[str], data: Path, path: Path, console: Console
) -> Path:
    """Predict fold K of `data` with the K-th ensemble, and save all predictions in one file.

    Args:
        names: an ensemble for each fold, trained on the others.
        data: a folder with labelled radiographs, see `datasets.load`.
        path: an `.npz` with `identity`, `source` and `fold` `(N,)`, `score` `(N,)` float32, and
            where the networks have them `opacity` `(N, h, w)` uint8 (the probability times 255)
            and `classes` `(N, L)` float32.
        console: where progress is shown.
    """
    found = datasets.as_opacity(datasets.load(data))
    parts = []
    for fold, name in enumerate(names):
        of_fold = found.folds([fold])
        if of_fold.images:
            engine = load(name, batch_size=8, precision="float32").engine
            parts.append((fold, predict_with_progress(of_fold, engine, console)))
    images = [image for _, predictions in parts for image in predictions.dataset.images]
    arrays: dict[str, Any] = {
        "identity": np.array([image.identity for image in images]),
        "source": np.array([image.source for image in images]),
        "fold": np.concatenate([np.full(len(one.dataset), fold) for fold, one in parts]),
        "score": np.concatenate([one.scores for _, one in parts]),
    }
    for name in ("opacity", "classes"):
        if getattr(parts[0][1], name) is not None:
            arrays[name] = np.concatenate([getattr(one, name) for _, one in parts])
    with atomic_write(path, "wb") as file:
        np.savez_compressed(file, **arrays)
    return path


def _print_registered(name: str, console: Console) -> None:
    command = f"python -m lungbox predict IMAGE_DIR --ensemble {name}"
    console.print(f"Registered as {name}: {command}", markup=False)


def _register(
    recipe: Recipe, config: TrainingConfig, path: Path, before: frozenset[int] | None
) -> str:
    """Register trained weights; `before` are the training folds of the initial ones."""
    digest = sha256(path)
    name = f"{recipe.label}-{digest[:8]}"
    folds = set(recipe.data.folds)
    if recipe.distillation:
        folds |= training_folds_of(recipe.distillation.teacher)
    network = architecture.describe(recipe.architecture)
    labels = recipe.label_set
    class_names = labels.class_names if labels else RunFolder(path.parent).class_names
    weights = Weights(
        architecture=network.name,
        kind=network.kind,
        class_names=class_names or network.class_names,
        options={
            name: value
            for name, value in recipe.options.items()
            if name not in architecture.TRAINING_OPTIONS
        },
        image_size=_image_size(recipe, path.parent),
        sha256=digest,
        bytes=path.stat().st_size,
        sources=(f"file:{path.resolve()}",),
        recipe=" ".join([str(config.recipe), *(f"--set {change}" for change in config.changes)]),
        folds=None if before is None else tuple(sorted(folds | before)),
        selected_on=recipe.validation.fold if recipe.validation.patience else None,
    )
    register(name, weights, _alone(name, recipe))
    return name


def _alone(name: str, recipe: Recipe) -> Ensemble:
    """The ensemble of one network, with an untuned operating point."""
    reference = architecture.describe(recipe.architecture).reference
    note = "the reference system's box rule" if reference else _UNTUNED
    alone = Ensemble.alone(name, reference=reference, preparation=recipe.preparation, note=note)
    if recipe.data.task == "findings":
        # Findings may be small, and boxes of low confidence cost nothing under their metric.
        return alone.model_copy(update={"min_area": 0.0, "shrink": 0.0, "min_score": 0.01})
    return alone


def _image_size(recipe: Recipe, run: Path) -> int:
    """The image size of the epoch whose weights were saved: with patience the best, else the
    last."""
    epoch = best_epoch(read_log(run)) if recipe.validation.patience else 0
    return recipe.image_size_of(epoch or recipe.epochs)
