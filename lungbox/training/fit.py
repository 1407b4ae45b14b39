"""The training loop, read from top to bottom.

A run is a folder: `recipe.toml` (what was asked), `log.csv` (a row an epoch) and `tensorboard/`,
`state.safetensors` (where it stands, until it ends), `best-EPOCH.safetensors` (where the recipe
has patience) and `weights.safetensors` (what it was for).
"""

import shutil
import time
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import accumulate
from math import isfinite, isnan, nan
from pathlib import Path

import keras
import tomli_w

from lungbox import architecture
from lungbox.errors import LungboxError
from lungbox.files import replacing
from lungbox.training.batches import Batches
from lungbox.training.checks import check_data, check_network, check_teacher
from lungbox.training.devices import distributed
from lungbox.training.job import Job, Progress
from lungbox.training.materials import Materials, read_materials
from lungbox.training.optimizer import averaged
from lungbox.training.recipe import Recipe, RecipeError, load_recipe
from lungbox.training.state import finished_epochs, load_state, save_state
from lungbox.training.tracking import LOG, CsvLog, Epoch, TensorBoard, Tracker
from lungbox.training.trainee import Trainee, build_trainee
from lungbox.training.validation import Validation
from lungbox.weights.files import save_weights

STATE = "state.safetensors"
BEST = "best-{epoch}.safetensors"
WEIGHTS = "weights.safetensors"


def train(job: Job, progress: Progress) -> Path:
    """Train what a recipe describes, or continue it, and return the weights' path.

    Raises:
        RecipeError: the recipe is wrong, or the folder holds a run of another recipe.
        DatasetError: the data is not there.
        WeightsError: the encoder's weights are not there.
    """
    recipe = load_recipe(job.recipe, job.changes)
    check_network(recipe)
    check_teacher(recipe, job.unlabelled)
    materials = read_materials(recipe, job, progress)
    check_data(recipe, materials.images.dataset)
    _claim(job.run, recipe, job.recipe)
    if (job.run / WEIGHTS).is_file():
        progress.note(f"{job.run / WEIGHTS} is there already; give another --run to train again")
        _tidy(job.run)
        return job.run / WEIGHTS
    done = finished_epochs(job.run / STATE)
    log = CsvLog(job.run, done)
    with ExitStack() as stack:
        trackers: list[Tracker] = [log, TensorBoard(job.run, done), *job.trackers]
        for tracker in trackers:
            stack.callback(tracker.close)
        stack.enter_context(distributed(recipe))
        trainee = _train_stages(recipe, materials, job, progress, trackers, log.epochs)
    best = job.run / BEST.format(epoch=best_epoch(log.epochs))
    if recipe.validation.patience and best.is_file():
        best.replace(job.run / WEIGHTS)
    else:
        save_weights(trainee.kept, job.run / WEIGHTS)
    _tidy(job.run)
    return job.run / WEIGHTS


def _tidy(run: Path, keep: int | None = None) -> None:
    """Remove what only an unfinished run needs, or all best weights but those of epoch `keep`."""
    kept = BEST.format(epoch=keep)
    for path in (*run.glob(BEST.format(epoch="*")), *([] if keep else [run / STATE])):
        if path.name != kept:
            path.unlink(missing_ok=True)


def _train_stages(
    recipe: Recipe,
    materials: Materials,
    job: Job,
    progress: Progress,
    trackers: Sequence[Tracker],
    epochs: Sequence[Epoch],
) -> Trainee:
    """Train what the state in the run's folder leaves to do; returns the network at its end.

    `epochs` are those that have finished; it grows.
    """
    state = job.run / STATE
    steps, done = recipe.steps_per_epoch(len(materials.images)), finished_epochs(state)
    progress.training(recipe.epochs * steps, done * steps, recipe.batch_size)
    stride = architecture.describe(recipe.architecture).stride
    ends = list(accumulate(stage.epochs for stage in recipe.stages))
    for stage, end in zip(recipe.stages, ends, strict=True):
        # The last stage is entered even where all its epochs are done: its weights are not saved.
        if done >= end and end < recipe.epochs:
            continue
        # A stage begins as a stopped run continues: from the state on disk.
        trainee = build_trainee(recipe, stage.image_size, recipe.epochs * steps)
        load_state(state, trainee.whole, trainee.optimizer)
        scoring = None
        if materials.held_out is not None:
            scoring = Validation(trainee.kept, materials.held_out, recipe.batch_size)
        for epoch in range(done, end):
            if _has_waited(recipe, epochs):
                progress.note(f"Stopped early: no better since epoch {best_epoch(epochs)}")
                return trainee
            trainee.optimizer.last_epoch = epoch == recipe.epochs - 1
            batches = Batches(
                materials.images, recipe, stage, epoch, stride,
                heads=trainee.heads, teacher=materials.teacher,
            )  # fmt: skip
            found = _train_epoch(trainee, batches, epoch + 1, progress)
            _check_finite(found)
            if scoring and _is_scored(recipe, found.epoch):
                found = _scored(recipe, found, trainee, scoring, epochs, job.run)
            for tracker in trackers:
                tracker.add(found)
            progress.epoch(found)
            save_state(state, trainee.whole, trainee.optimizer, epoch + 1)
            _tidy(job.run, keep=best_epoch(epochs) or epoch + 1)
        done = end
    return trainee


def _train_epoch(trainee: Trainee, batches: Batches, epoch: int, progress: Progress) -> Epoch:
    started = time.monotonic()
    tell = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda _, logs: progress.step(float(logs["loss"]))
    )
    rate = float(trainee.optimizer.learning_rate)
    # Order is the batches' own, so that a continued run draws what an undisturbed one draws.
    history = trainee.whole.fit(batches, shuffle=False, verbose=0, callbacks=[tell]).history
    seconds = time.monotonic() - started
    # Keras names no parts where there is only one.
    losses = {"mask_loss": history["loss"]} | history
    return Epoch(
        epoch=epoch,
        loss=history["loss"][0],
        mask_loss=losses["mask_loss"][0],
        image_loss=losses.get("image_loss", [nan])[0],
        edges_loss=losses.get("edges_loss", [nan])[0],
        learning_rate=rate,
        images_per_second=batches.samples / seconds,
        seconds=seconds,
    )


def _check_finite(epoch: Epoch) -> None:
    """Before the last good state is written over.

    Raises:
        LungboxError: the loss is no number.
    """
    if not isfinite(epoch.loss):
        raise LungboxError(
            f"the loss is {epoch.loss} in epoch {epoch.epoch}: give a lower "
            "optimizer.learning_rate; what was learned before it is kept"
        )


def _is_scored(recipe: Recipe, epoch: int) -> bool:
    return epoch % recipe.validation.every == 0 or epoch == recipe.epochs


def _scored(
    recipe: Recipe,
    epoch: Epoch,
    trainee: Trainee,
    scoring: Validation,
    earlier: Sequence[Epoch],
    run: Path,
) -> Epoch:
    """The epoch with its score; keeps the weights where the recipe is after the best."""
    with averaged(trainee.whole, trainee.optimizer):
        scored = Epoch(**(vars(epoch) | vars(scoring.score())))
        if recipe.validation.patience and best_epoch([*earlier, scored]) == epoch.epoch:
            save_weights(trainee.kept, run / BEST.format(epoch=epoch.epoch))
    return scored


def best_epoch(epochs: Sequence[Epoch]) -> int:
    """The number of the epoch with the highest metric, the earliest of equal ones; 0 for none."""
    scored = [epoch for epoch in epochs if not isnan(epoch.rsna_metric)]
    return max(scored, key=lambda epoch: epoch.rsna_metric).epoch if scored else 0


def _has_waited(recipe: Recipe, epochs: Sequence[Epoch]) -> bool:
    """Whether the metric has not risen for as many scores as the recipe has patience."""
    patience, best = recipe.validation.patience, best_epoch(epochs)
    since = [epoch for epoch in epochs if epoch.epoch > best and not isnan(epoch.rsna_metric)]
    return bool(patience) and len(since) >= patience


def _claim(run: Path, recipe: Recipe, recipe_path: Path) -> None:
    """Make `run` the folder of this recipe, or refuse it."""
    kept = run / "recipe.toml"
    if not any((run / name).exists() for name in (STATE, LOG, WEIGHTS)):
        kept.unlink(missing_ok=True)  # of a run that ended before its first epoch did
        _tidy(run)
    if kept.is_file() and load_recipe(kept) != recipe:
        raise RecipeError(
            f"{run} holds a run of another recipe; give another --run, or remove that folder"
        )
    run.mkdir(parents=True, exist_ok=True)
    if kept.is_file():
        return
    if load_recipe(recipe_path) == recipe:
        shutil.copyfile(recipe_path, kept)  # with its comments
    else:
        with replacing(kept, "wb") as file:
            tomli_w.dump(recipe.model_dump(mode="json", exclude_unset=True), file)
