"""The training loop, read from top to bottom; what it leaves is in `folder.RunFolder`."""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import accumulate
from math import isfinite, isnan, nan
from pathlib import Path

import keras

from lungbox import architecture
from lungbox.errors import LungboxError
from lungbox.training.batches import Batches
from lungbox.training.checks import check_data, check_network, check_teacher
from lungbox.training.devices import distributed
from lungbox.training.folder import RunFolder
from lungbox.training.history_plot import HistoryPlot
from lungbox.training.job import Job, Progress
from lungbox.training.materials import Materials, read_materials
from lungbox.training.optimizer import averaged
from lungbox.training.recipe import Recipe, load_recipe
from lungbox.training.state import finished_epochs, load_state, save_state
from lungbox.training.tracking import CsvLog, Epoch, TensorBoard, Tracker
from lungbox.training.trainee import Trainee, build_trainee
from lungbox.training.validation import Validation, mask_figures
from lungbox.weights.files import save_weights


def train(job: Job, progress: Progress) -> Path:
    """Train what a recipe describes, or continue it, and return the weights' path.

    Raises:
        RecipeError: the recipe is wrong, or the folder holds another run.
        DatasetError: the data is not there.
        WeightsError: the encoder's weights are not there.
    """
    recipe = load_recipe(job.recipe, job.changes)
    check_network(recipe)
    check_teacher(recipe, job.unlabelled)
    materials = read_materials(recipe, job, progress)
    check_data(recipe, materials.images.dataset)
    folder = RunFolder(job.run)
    folder.claim(recipe, job.recipe, materials)
    if folder.weights.is_file():
        progress.note(f"{folder.weights} is there already; give another --run to train again")
        folder.tidy()
        return folder.weights
    done = finished_epochs(folder.state)
    log = CsvLog(job.run, done)
    with ExitStack() as stack:
        drawn = HistoryPlot(job.run, log.epochs)
        trackers: list[Tracker] = [log, drawn, TensorBoard(job.run, done), *job.trackers]
        for tracker in trackers:
            stack.callback(tracker.close)
        stack.enter_context(distributed(recipe))
        trainee = _train_stages(recipe, materials, folder, progress, trackers, log.epochs)
    best = folder.best(best_epoch(log.epochs))
    if recipe.validation.patience and best.is_file():
        best.replace(folder.weights)
    else:
        save_weights(trainee.kept, folder.weights)
    folder.tidy()
    return folder.weights


def _train_stages(
    recipe: Recipe,
    materials: Materials,
    folder: RunFolder,
    progress: Progress,
    trackers: Sequence[Tracker],
    epochs: Sequence[Epoch],
) -> Trainee:
    """Train what the state in the run's folder leaves to do; returns the network at its end.

    `epochs` are those that have finished; it grows.
    """
    state = folder.state
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
            scoring = Validation(trainee, materials.held_out, recipe, stage, stride)
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
                found = _scored(recipe, found, trainee, scoring, epochs, folder)
            for tracker in trackers:
                tracker.add(found)
            progress.epoch(found)
            save_state(state, trainee.whole, trainee.optimizer, epoch + 1)
            folder.tidy(keep=best_epoch(epochs) or epoch + 1)
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
    found = {name: values[0] for name, values in history.items()}
    return Epoch(
        epoch=epoch,
        # Keras names no parts where there is only one.
        mask_loss=found.get("mask_loss", found["loss"]),
        image_loss=found.get("image_loss", nan),
        edges_loss=found.get("edges_loss", nan),
        **mask_figures(found),
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
    folder: RunFolder,
) -> Epoch:
    """The epoch with its score; keeps the weights where the recipe is after the best."""
    with averaged(trainee.whole, trainee.optimizer):
        scored = Epoch(**(vars(epoch) | vars(scoring.score())))
        if recipe.validation.patience and best_epoch([*earlier, scored]) == epoch.epoch:
            save_weights(trainee.kept, folder.best(epoch.epoch))
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
