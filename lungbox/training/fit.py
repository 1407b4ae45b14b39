"""The training loop, read from top to bottom.

A run is a folder: `recipe.toml` (what was asked), `log.csv` (a row an epoch), `state.safetensors`
(where it stands, until it ends) and `weights.safetensors` (what it was for).
"""

import csv
import math
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import keras
import tomli_w

from lungbox import architecture, datasets
from lungbox.datasets.cache import Cache, prepare_all
from lungbox.files import replacing
from lungbox.frameworks import compile_choice, dtype_policy
from lungbox.metrics.losses import IoUBinaryCrossentropy
from lungbox.training.batches import Batches
from lungbox.training.checks import check_data, check_network
from lungbox.training.optimizer import EncoderAdamW, build_optimizer
from lungbox.training.recipe import Recipe, RecipeError, load_recipe
from lungbox.training.state import finished_epochs, load_state, save_state
from lungbox.weights.files import save_weights
from lungbox.weights.imagenet import load_encoder

LOG = "log.csv"
STATE = "state.safetensors"
WEIGHTS = "weights.safetensors"


@dataclass(frozen=True)
class Epoch:
    """What one finished epoch showed; NaN is the loss of a head that the network has not."""

    epoch: int
    loss: float
    mask_loss: float
    image_loss: float
    seconds: float


class Progress:
    """What a run tells whoever watches it; this one keeps silent."""

    def reading(self, images: int) -> Callable[[], object]:
        """That many images are about to be read; the result is called for each."""
        del images
        return lambda: None

    def training(self, steps: int, done: int, batch_size: int) -> None:
        """Steps of the whole run, and those done in an earlier one."""

    def step(self, loss: float) -> None:
        """One step is done."""

    def epoch(self, epoch: Epoch) -> None:
        """One epoch is done."""

    def note(self, sentence: str) -> None:
        """Something the user should know."""


def train(
    recipe_path: Path,
    data: Path,
    run: Path,
    cache: Path,
    progress: Progress,
    changes: Sequence[str] = (),
) -> Path:
    """Train what `recipe_path` describes, or continue it, and return the weights' path.

    Args:
        recipe_path: a TOML file, see `training.recipe`.
        data: a folder `datasets.load` knows.
        run: the run's folder. Where it holds an unfinished run of the same recipe, that run is
            continued after its last finished epoch.
        cache: where prepared images are kept.
        progress: is told what happens.
        changes: to the recipe, see `load_recipe`.

    Raises:
        RecipeError: the recipe is wrong, or the folder holds a run of another recipe.
        DatasetError: the data is not there.
        WeightsError: the encoder's weights are not there.
    """
    recipe = load_recipe(recipe_path, changes)
    check_network(recipe)
    images = _read(recipe, data, cache, progress)
    check_data(recipe, images.dataset)
    _claim(run, recipe, recipe_path)
    if (run / WEIGHTS).is_file():
        progress.note(f"{run / WEIGHTS} is there already; give another --run to train again")
        return run / WEIGHTS

    model = _train_stages(recipe, images, run, progress)
    save_weights(model, run / WEIGHTS)
    (run / STATE).unlink(missing_ok=True)
    return run / WEIGHTS


def _train_stages(recipe: Recipe, images: Cache, run: Path, progress: Progress) -> keras.Model:
    """Train what the state in `run` leaves to do; returns the network at its end."""
    stride = architecture.describe(recipe.architecture).stride
    steps = recipe.steps_per_epoch(len(images))
    done = finished_epochs(run / STATE)
    _forget_later_rows(run / LOG, done)
    progress.training(recipe.epochs * steps, done * steps, recipe.batch_size)
    ends = list(accumulate(stage.epochs for stage in recipe.stages))
    for stage, end in zip(recipe.stages, ends, strict=True):
        # The last stage is entered even where all its epochs are done: its weights are not saved.
        if done >= end and end < recipe.epochs:
            continue
        # A stage begins as a stopped run continues: from the state on disk.
        model, optimizer = _build(recipe, stage.image_size, recipe.epochs * steps)
        load_state(run / STATE, model, optimizer)
        for epoch in range(done, end):
            optimizer.last_epoch = epoch == recipe.epochs - 1
            batches = Batches(images, recipe, stage, epoch, stride, heads=tuple(model.output))
            progress.epoch(_train_epoch(model, batches, epoch, run / LOG, progress))
            save_state(run / STATE, model, optimizer, epoch + 1)
        done = end
    return model


def _forget_later_rows(log: Path, done: int) -> None:
    """Drop rows of epochs whose state was not saved any more: they are trained again."""
    if log.is_file():
        with log.open(newline="") as file:
            rows = list(csv.reader(file))
        kept = rows[:1] + [row for row in rows[1:] if int(row[0]) <= done]
        with replacing(log) as file:
            csv.writer(file, lineterminator="\n").writerows(kept)


def _claim(run: Path, recipe: Recipe, recipe_path: Path) -> None:
    """Make `run` the folder of this recipe, or refuse it."""
    kept = run / "recipe.toml"
    if not any((run / name).exists() for name in (STATE, LOG, WEIGHTS)):
        kept.unlink(missing_ok=True)  # of a run that ended before its first epoch did
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


def _read(recipe: Recipe, data: Path, cache: Path, progress: Progress) -> Cache:
    dataset = datasets.load(data).folds(recipe.data.folds).where(lambda image: not image.uncertain)
    if not dataset.images:
        wanted = ", ".join(map(str, recipe.data.folds))
        raise datasets.DatasetError(f"{data}: no image is in the recipe's folds {wanted}")
    reading = progress.reading(len(dataset))
    images = prepare_all(dataset, recipe.image_size, cache, reading, recipe.data.preparation)
    for fault in (*dataset.faults, *(f"{path}: {why}" for path, why in images.failed)):
        progress.note(fault)
    return images


def _build(recipe: Recipe, image_size: int, steps: int) -> tuple[keras.Model, EncoderAdamW]:
    keras.utils.set_random_seed(recipe.seed)
    with dtype_policy(recipe.policy):
        try:
            model = architecture.build(recipe.architecture, image_size, **recipe.options)
        except (TypeError, ValueError) as error:
            reason = str(error).partition("\n")[0]
            raise RecipeError(f"options: {recipe.architecture} refuses them ({reason})") from error
    encoder = architecture.describe(recipe.architecture).encoder
    pretrained: frozenset[str] = frozenset()
    if recipe.encoder_weights != "none":
        pretrained = load_encoder(model, encoder, recipe.encoder_file)
    optimizer = build_optimizer(recipe.optimizer, model, steps, pretrained)
    if keras.backend.backend() == "tensorflow" and recipe.policy == "float32":
        from lungbox.training.tensorflow_cpu import fuse_batch_norm

        fuse_batch_norm(model)
    weights = recipe.loss
    losses: dict[str, keras.losses.Loss] = {
        "mask": IoUBinaryCrossentropy(weights.bce, weights.iou, channels=weights.channels),
        "image": keras.losses.BinaryCrossentropy(label_smoothing=weights.label_smoothing),
    }
    shares = {"mask": 1.0, "image": weights.image}
    model.compile(
        optimizer=optimizer,
        loss={head: losses[head] for head in model.output},
        loss_weights={head: shares[head] for head in model.output},
        jit_compile=compile_choice(),
    )
    optimizer.build(model.trainable_variables)
    return model, optimizer


def _train_epoch(
    model: keras.Model, batches: Batches, epoch: int, log: Path, progress: Progress
) -> Epoch:
    started = time.monotonic()
    tell = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda _, logs: progress.step(float(logs["loss"]))
    )
    # Order is the batches' own, so that a continued run draws what an undisturbed one draws.
    history = model.fit(batches, shuffle=False, verbose=0, callbacks=[tell]).history
    result = Epoch(
        epoch=epoch + 1,
        loss=history["loss"][0],
        # Keras names no parts where there is only one.
        mask_loss=history.get("mask_loss", history["loss"])[0],
        image_loss=history.get("image_loss", [math.nan])[0],
        seconds=time.monotonic() - started,
    )
    fresh = epoch == 0 or not log.is_file()
    with log.open("w" if fresh else "a", newline="") as file:
        writer = csv.DictWriter(file, list(vars(result)), lineterminator="\n")
        if fresh:
            writer.writeheader()
        writer.writerow(vars(result))
    return result
