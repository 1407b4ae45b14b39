"""Short training runs on phantoms."""

from pathlib import Path

import keras
import numpy as np

from lungbox.datasets.phantom import write_rsna
from lungbox.training import loop
from lungbox.training.progress import TrainingProgress
from lungbox.training.recipe import TrainingConfig

# Three steps of two images without augmentation, by the network `two_convolutions`.
RECIPE = """
name = "keys-{architecture}"
architecture = "two_convolutions"
encoder_weights = "none"
batch_size = 2
[data]
samples_per_epoch = 6
[augmentation]
enabled = false
[[stages]]
epochs = 1
image_size = 32
"""


def written(folder: Path, count: int, recipe: str = RECIPE) -> Path:
    """A folder with `recipe.toml` and phantoms under `data`."""
    write_rsna(folder / "data", count=count, size=64)
    (folder / "recipe.toml").write_text(recipe)
    return folder


def config_of(folder: Path, name: str, *changes: str, recipe="recipe.toml", **settings):
    """The configuration of a run in such a folder."""
    cache = {"cache": folder / "cache"}
    return TrainingConfig(
        folder / recipe, folder / "data", folder / name, changes, **(cache | settings)
    )


def train(folder: Path, name: str, *changes: str, progress=None, **settings) -> Path:
    """Train in such a folder; the path of the weights."""
    config = config_of(folder, name, *changes, **settings)
    return loop.train(config, progress or TrainingProgress())


class Recorder(TrainingProgress):
    """Keeps what it is notified of; interrupts the run in the epoch after `stop_after`."""

    def __init__(self, stop_after=99):
        self.stop_after, self.losses, self.epochs, self.notes = stop_after, [], [], []

    def step(self, loss):
        self.losses.append(loss)
        if len(self.epochs) == self.stop_after:
            raise KeyboardInterrupt

    def epoch(self, epoch):
        self.epochs.append(epoch)

    def note(self, message):
        self.notes.append(message)


class Untrained:
    """Replaces the steps of `fit`: keeps what each epoch is given, and adds 1 to one bias.

    Attributes:
        given: of each epoch its number, the model, the bias before it, and all of its batches.
    """

    def __init__(self, monkeypatch):
        self.given = []
        monkeypatch.setattr(keras.Model, "fit", lambda *args, **given: self._fit(*args, **given))

    @property
    def first_batches(self):
        return [batches[0] for *_, batches in self.given]

    def _fit(self, model, batches, *, initial_epoch, epochs, callbacks, **_):
        callbacks = keras.callbacks.CallbackList(callbacks, model=model)
        bias = model.get_layer("mask_logits").bias
        model.stop_training = False
        for epoch in range(initial_epoch, epochs):
            callbacks.on_epoch_begin(epoch)
            drawn = [batches[step] for step in range(len(batches))]
            self.given.append((epoch + 1, model, float(np.array(bias)[0]), drawn))
            bias.assign(bias + 1)
            callbacks.on_epoch_end(epoch, {"loss": 1.0, "mask_loss": 1.0, "image_loss": 1.0})
            if model.stop_training:
                break
