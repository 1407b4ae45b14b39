"""Callbacks of a training run, in the order `loop` passes them to `fit`.

They share `logs`: `EpochStatistics` and `ScoreHeldOut` add to it, the callbacks after them read it.
Where Keras has a callback of the same purpose, a docstring says why it is not used: a resumed run
has to give the curve of an uninterrupted one.
"""

import time
from collections.abc import Sequence
from math import isfinite

import keras

from lungbox.errors import LungboxError
from lungbox.training.batches import Batches
from lungbox.training.loggers import EpochMetrics, best_epoch, held_out_score
from lungbox.training.model import TrainableNetwork, named_as_logged
from lungbox.training.optimizer import moving_average_weights
from lungbox.training.progress import TrainingProgress
from lungbox.training.recipe import Recipe
from lungbox.training.run_folder import RunFolder
from lungbox.training.state import save_state
from lungbox.training.validation import ValidationScorer
from lungbox.weights.formats.safetensors import save_weights

Logs = dict[str, float]


class EpochBatches(keras.callbacks.Callback):
    """Draws each epoch's batches, which are a function of its number.

    Not `PyDataset.on_epoch_begin`: Keras 3.15 calls it after its threads have begun to make
    batches, and without the epoch's number.
    """

    def __init__(self, batches: Batches) -> None:
        super().__init__()
        self._batches = batches

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        self._batches.epoch = epoch


class EpochStatistics(keras.callbacks.Callback):
    """Gives the metrics in `logs` their names in `log.csv`, and adds learning rate and speed.

    Raises:
        LungboxError: the loss is not finite. Not `keras.callbacks.TerminateOnNaN`, after which the
            other callbacks would save the state of the diverged network.
    """

    def __init__(self, network: TrainableNetwork, batches: Batches) -> None:
        super().__init__()
        self._network, self._batches = network, batches
        self._started = self._learning_rate = 0.0

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        self._started = time.monotonic()
        self._learning_rate = float(self._network.optimizer.learning_rate)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        assert logs is not None
        seconds = time.monotonic() - self._started
        if not isfinite(logs["loss"]):
            raise LungboxError(
                f"the loss is {logs['loss']} in epoch {epoch + 1}: give a lower "
                "optimizer.learning_rate; the state before this epoch is kept"
            )
        logs |= named_as_logged(logs, list(self._network.outputs))
        logs["learning_rate"] = self._learning_rate
        logs["seconds"] = seconds
        logs["images_per_second"] = self._batches.samples / seconds


class ScoreHeldOut(keras.callbacks.Callback):
    """Scores the held-out fold with the moving average of the weights, and adds it to `logs`.

    With patience it also saves the best weights. Not `validation_data` of `fit`, which would use
    the weights of the last step and does not know the RSNA metric; not
    `keras.callbacks.ModelCheckpoint`, which would save the auxiliary heads, too.

    Args:
        network: the network in training.
        scorer: scores it.
        recipe: its validation.
        epochs: the finished epochs.
        folder: where the best weights are saved.
    """

    def __init__(
        self,
        network: TrainableNetwork,
        scorer: ValidationScorer,
        recipe: Recipe,
        epochs: Sequence[EpochMetrics],
        folder: RunFolder,
    ) -> None:
        super().__init__()
        self._network, self._scorer, self._recipe = network, scorer, recipe
        self._epochs, self._folder = epochs, folder

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        assert logs is not None
        number, settings = epoch + 1, self._recipe.validation
        if number % settings.every and number != self._recipe.epochs:
            return
        with moving_average_weights(self._network.training_model, self._network.optimizer):
            logs |= self._scorer.score().logs
            epochs = [*self._epochs, EpochMetrics.of(number, logs)]
            if settings.patience and best_epoch(epochs) == number:
                save_weights(self._network.inference_model, self._folder.best(number))


class Progress(keras.callbacks.Callback):
    """Reports steps and epochs to a `TrainingProgress`."""

    def __init__(self, progress: TrainingProgress) -> None:
        super().__init__()
        self._progress = progress

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        self._progress.step((logs or {})["loss"])

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        self._progress.epoch(EpochMetrics.of(epoch + 1, logs or {}))


class SaveState(keras.callbacks.Callback):
    """Saves the training state after each epoch; see `state` for why not `BackupAndRestore`.

    Args:
        network: the network in training.
        epochs: the finished epochs.
        folder: the run's folder.
    """

    def __init__(
        self, network: TrainableNetwork, epochs: Sequence[EpochMetrics], folder: RunFolder
    ) -> None:
        super().__init__()
        self._network, self._epochs, self._folder = network, epochs, folder

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        network, number = self._network, epoch + 1
        save_state(self._folder.state, network.training_model, network.optimizer, number)
        self._folder.tidy(keep=best_epoch(self._epochs) or number)


class EarlyStopping(keras.callbacks.Callback):
    """Stops when the score has not risen as often as the recipe has patience.

    Not `keras.callbacks.EarlyStopping`, which forgets the best score and the epochs since then at
    the begin of each `fit`, so in each stage and after a restart, and warns of each epoch that is
    not scored.

    Args:
        recipe: its patience.
        epochs: the finished epochs.
    """

    def __init__(self, recipe: Recipe, epochs: Sequence[EpochMetrics]) -> None:
        super().__init__()
        self._recipe, self._epochs = recipe, epochs

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        self.model.stop_training = patience_exhausted(self._recipe, self._epochs)


def patience_exhausted(recipe: Recipe, epochs: Sequence[EpochMetrics]) -> bool:
    """Whether the score has not risen as often as the recipe has patience."""
    patience, best = recipe.validation.patience, best_epoch(epochs)
    since = [epoch for epoch in epochs if epoch.epoch > best and held_out_score(epoch) is not None]
    return bool(patience) and len(since) >= patience
