"""The training loop: one `fit` for each stage of a recipe, resumed where a run was stopped."""

import hashlib
from collections.abc import Sequence
from contextlib import ExitStack, closing
from itertools import accumulate
from pathlib import Path

import keras

from lungbox.training.batches import Batches
from lungbox.training.callbacks import (
    EarlyStopping,
    EpochBatches,
    EpochStatistics,
    Progress,
    SaveState,
    ScoreHeldOut,
    patience_exhausted,
)
from lungbox.training.data import TrainingData, check_data, load_training_data
from lungbox.training.devices import distributed
from lungbox.training.distillation import check_teacher
from lungbox.training.history_plot import HistoryPlot
from lungbox.training.initial_weights import check_initial_weights
from lungbox.training.loggers import (
    CsvLog,
    EpochLogger,
    EpochMetrics,
    TensorBoard,
    WeightsAndBiases,
    best_epoch,
)
from lungbox.training.model import TrainableNetwork, build_trainable, check_network
from lungbox.training.progress import TrainingProgress
from lungbox.training.recipe import Recipe, TrainingConfig
from lungbox.training.run_folder import RunFolder
from lungbox.training.sections import Stage
from lungbox.training.state import finished_epochs, load_state
from lungbox.training.validation import ValidationScorer
from lungbox.weights.formats.safetensors import save_weights


def train(config: TrainingConfig, progress: TrainingProgress) -> Path:
    """Train a recipe, or resume its run, and return the path of the trained weights.

    Raises:
        RecipeError: the recipe is invalid, or the folder holds another run.
        DatasetError: the data is missing.
        WeightsError: the encoder's weights are unavailable.
        LungboxError: the loss is not finite.
    """
    recipe = config.load_recipe()
    check_network(recipe)
    check_teacher(recipe, config.unlabelled)
    check_initial_weights(recipe)
    training_data = load_training_data(recipe, config, progress)
    check_data(recipe, training_data.images.dataset)
    folder = RunFolder(config.folder(recipe))
    folder.claim(recipe, config.recipe, training_data)
    if folder.weights.is_file():
        progress.note(f"{folder.weights} exists already; give another --run to train again")
        folder.tidy()
        return folder.weights
    with ExitStack() as stack:
        done = finished_epochs(folder.state)
        log = CsvLog(folder.path, done)
        # The log first: the others read its list of epochs.
        loggers: list[EpochLogger] = [log, HistoryPlot(folder.path, log.epochs)]
        loggers.append(stack.enter_context(closing(TensorBoard(folder.path, done))))
        if config.wandb:
            loggers.append(stack.enter_context(closing(_wandb(config.wandb, recipe, folder))))
        stack.enter_context(distributed(recipe))
        run = _Run(
            recipe, training_data, folder, progress, log.epochs, [*loggers, *config.callbacks]
        )
        network = run.train_stages()
    best = folder.best(best_epoch(log.epochs))
    if recipe.validation.patience and best.is_file():
        best.replace(folder.weights)
    else:
        save_weights(network.inference_model, folder.weights)
    folder.tidy()
    return folder.weights


class _Run:
    """What all stages of a run have in common; `epochs` are the finished ones, and grow."""

    def __init__(
        self,
        recipe: Recipe,
        training_data: TrainingData,
        folder: RunFolder,
        progress: TrainingProgress,
        epochs: Sequence[EpochMetrics],
        loggers: Sequence[keras.callbacks.Callback],
    ) -> None:
        self._recipe, self._data, self._folder = recipe, training_data, folder
        self._progress, self._epochs, self._loggers = progress, epochs, loggers

    def train_stages(self) -> TrainableNetwork:
        """Train the epochs that are not finished yet; returns the last stage's network."""
        recipe, state = self._recipe, self._folder.state
        steps = recipe.steps_per_epoch(len(self._data.images))
        done = finished_epochs(state)
        self._progress.training(recipe.epochs * steps, done * steps, recipe.batch_size)
        ends = list(accumulate(stage.epochs for stage in recipe.stages))
        for stage, end in zip(recipe.stages, ends, strict=True):
            # The last stage is built even where it is finished: its weights are not saved yet.
            if done >= end and end < recipe.epochs:
                continue
            # Each stage begins like a resumed run, from the state on disk.
            network = build_trainable(
                recipe, stage.image_size, recipe.epochs * steps, self._data.class_names
            )
            load_state(state, network.training_model, network.optimizer)
            if not patience_exhausted(recipe, self._epochs):
                self._fit(network, stage, done, end)
                done = finished_epochs(state)
            if patience_exhausted(recipe, self._epochs) and done < recipe.epochs:
                best = best_epoch(self._epochs)
                self._progress.note(f"Stopped early: no better since epoch {best}")
                break
        return network

    def _fit(self, network: TrainableNetwork, stage: Stage, done: int, end: int) -> None:
        """Train a stage from epoch `done` to `end`.

        At its end `fit` gives the network the moving average of its weights, also where `done` is
        `end`. The next stage does not see that, as the state was saved before.
        """
        recipe, data, folder = self._recipe, self._data, self._folder
        batches = Batches(data.images, recipe, stage, network.outputs, done, data.teacher)
        validation: list[keras.callbacks.Callback] = []
        if data.held_out is not None:
            scorer = ValidationScorer(network, data.held_out, recipe, stage)
            validation = [ScoreHeldOut(network, scorer, recipe, self._epochs, folder)]
        network.training_model.fit(
            batches,
            shuffle=False,  # the order of `Batches` is the same in a resumed run
            initial_epoch=done,
            epochs=end,
            verbose=0,
            callbacks=[
                EpochBatches(batches),
                EpochStatistics(network, batches),
                *validation,
                *self._loggers,
                Progress(self._progress),
                SaveState(network, self._epochs, folder),
                EarlyStopping(recipe, self._epochs),
            ],
        )


def _wandb(project: str, recipe: Recipe, folder: RunFolder) -> WeightsAndBiases:
    # The same identifier when the run is resumed, another one in another folder.
    digest = hashlib.sha256(str(folder.path.resolve()).encode()).hexdigest()[:8]
    return WeightsAndBiases(project, f"{recipe.label}-{digest}", recipe.model_dump(mode="json"))
