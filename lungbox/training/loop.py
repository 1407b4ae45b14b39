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
from lungbox.training.config import TrainingConfig, TrainingProgress
from lungbox.training.data import TrainingData, load_training_data
from lungbox.training.devices import distributed
from lungbox.training.history_plot import HistoryPlot
from lungbox.training.loggers import CsvLog, EpochLogger, EpochMetrics, TensorBoard
from lungbox.training.model import TrainableNetwork, build_trainable
from lungbox.training.optimizer import moving_average_weights
from lungbox.training.recipe import Recipe, load_recipe
from lungbox.training.run_folder import RunFolder
from lungbox.training.state import finished_epochs, load_state, save_state
from lungbox.training.validation import ValidationScorer, mask_metrics_of
from lungbox.weights.formats.safetensors import save_weights


def train(config: TrainingConfig, progress: TrainingProgress) -> Path:
    """Train what a recipe describes, or continue it, and return the weights' path.

    Raises:
        RecipeError: the recipe is wrong, or the folder holds another run.
        DatasetError: the data is not there.
        WeightsError: the encoder's weights are not there.
    """
    recipe = load_recipe(config.recipe, config.changes)
    check_network(recipe)
    check_teacher(recipe, config.unlabelled)
    training_data = load_training_data(recipe, config, progress)
    check_data(recipe, training_data.images.dataset)
    folder = RunFolder(config.run)
    folder.claim(recipe, config.recipe, training_data)
    if folder.weights.is_file():
        progress.note(f"{folder.weights} is there already; give another --run to train again")
        folder.tidy()
        return folder.weights
    done = finished_epochs(folder.state)
    log = CsvLog(config.run, done)
    with ExitStack() as stack:
        drawn = HistoryPlot(config.run, log.epochs)
        epoch_loggers: list[EpochLogger] = [
            log,
            drawn,
            TensorBoard(config.run, done),
            *config.epoch_loggers,
        ]
        for epoch_logger in epoch_loggers:
            stack.callback(epoch_logger.close)
        stack.enter_context(distributed(recipe))
        trainable = _train_stages(
            recipe, training_data, folder, progress, epoch_loggers, log.epochs
        )
    best = folder.best(best_epoch(log.epochs))
    if recipe.validation.patience and best.is_file():
        best.replace(folder.weights)
    else:
        save_weights(trainable.inference_model, folder.weights)
    folder.tidy()
    return folder.weights


def _train_stages(
    recipe: Recipe,
    training_data: TrainingData,
    folder: RunFolder,
    progress: TrainingProgress,
    epoch_loggers: Sequence[EpochLogger],
    epochs: Sequence[EpochMetrics],
) -> TrainableNetwork:
    """Train what the state in the run's folder leaves to do; returns the network at its end.

    `epochs` are those that have finished; it grows.
    """
    state = folder.state
    steps, done = recipe.steps_per_epoch(len(training_data.images)), finished_epochs(state)
    progress.training(recipe.epochs * steps, done * steps, recipe.batch_size)
    stride = architecture.describe(recipe.architecture).stride
    ends = list(accumulate(stage.epochs for stage in recipe.stages))
    for stage, end in zip(recipe.stages, ends, strict=True):
        # The last stage is entered even where all its epochs are done: its weights are not saved.
        if done >= end and end < recipe.epochs:
            continue
        # A stage begins as a stopped run continues: from the state on disk.
        trainable = build_trainable(recipe, stage.image_size, recipe.epochs * steps)
        load_state(state, trainable.training_model, trainable.optimizer)
        scoring = None
        if training_data.held_out is not None:
            scoring = ValidationScorer(trainable, training_data.held_out, recipe, stage, stride)
        for epoch in range(done, end):
            if patience_exhausted(recipe, epochs):
                progress.note(f"Stopped early: no better since epoch {best_epoch(epochs)}")
                return trainable
            trainable.optimizer.last_epoch = epoch == recipe.epochs - 1
            batches = Batches(
                training_data.images, recipe, stage, epoch, stride,
                heads=trainable.heads, teacher=training_data.teacher,
            )  # fmt: skip
            found = _train_epoch(trainable, batches, epoch + 1, progress)
            _check_finite(found)
            if scoring and _is_scored(recipe, found.epoch):
                found = _scored(recipe, found, trainable, scoring, epochs, folder)
            for epoch_logger in epoch_loggers:
                epoch_logger.add(found)
            progress.epoch(found)
            save_state(state, trainable.training_model, trainable.optimizer, epoch + 1)
            folder.tidy(keep=best_epoch(epochs) or epoch + 1)
        done = end
    return trainable


def _train_epoch(
    trainable: TrainableNetwork, batches: Batches, epoch: int, progress: TrainingProgress
) -> EpochMetrics:
    started = time.monotonic()
    tell = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda _, logs: progress.step(float(logs["loss"]))
    )
    rate = float(trainable.optimizer.learning_rate)
    # Order is the batches' own, so that a continued run draws what an undisturbed one draws.
    history = trainable.training_model.fit(
        batches, shuffle=False, verbose=0, callbacks=[tell]
    ).history
    seconds = time.monotonic() - started
    found = {name: values[0] for name, values in history.items()}
    return EpochMetrics(
        epoch=epoch,
        # Keras names no parts where there is only one.
        mask_loss=found.get("mask_loss", found["loss"]),
        image_loss=found.get("image_loss", nan),
        edges_loss=found.get("edges_loss", nan),
        **mask_metrics_of(found),
        learning_rate=rate,
        images_per_second=batches.samples / seconds,
        seconds=seconds,
    )


def _check_finite(epoch: EpochMetrics) -> None:
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
    epoch: EpochMetrics,
    trainable: TrainableNetwork,
    scoring: ValidationScorer,
    earlier: Sequence[EpochMetrics],
    folder: RunFolder,
) -> EpochMetrics:
    """The epoch with its score; keeps the weights where the recipe is after the best."""
    with moving_average_weights(trainable.training_model, trainable.optimizer):
        scored = EpochMetrics(**(vars(epoch) | vars(scoring.score())))
        if recipe.validation.patience and best_epoch([*earlier, scored]) == epoch.epoch:
            save_weights(trainable.inference_model, folder.best(epoch.epoch))
    return scored


def best_epoch(epochs: Sequence[EpochMetrics]) -> int:
    """The number of the epoch with the highest metric, the earliest of equal ones; 0 for none."""
    scored = [epoch for epoch in epochs if not isnan(epoch.rsna_metric)]
    return max(scored, key=lambda epoch: epoch.rsna_metric).epoch if scored else 0


def patience_exhausted(recipe: Recipe, epochs: Sequence[EpochMetrics]) -> bool:
    """Whether the metric has not risen for as many scores as the recipe has patience."""
    patience, best = recipe.validation.patience, best_epoch(epochs)
    since = [epoch for epoch in epochs if epoch.epoch > best and not isnan(epoch.rsna_metric)]
    return bool(patience) and len(since) >= patience
