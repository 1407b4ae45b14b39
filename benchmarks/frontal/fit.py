"""Fit the frontal check on folds 1-3, and choose its threshold on fold 4."""

from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from benchmarks.frontal.samples import WORKING_SIDE, sample
from lungbox import datasets
from lungbox.common.files import atomic_write
from lungbox.common.paths import cache_folder
from lungbox.datasets.cache import PreparedImages, prepare_all
from lungbox.radiograph import resize_area
from lungbox.radiograph.frontal import CLASSES, SIDE, load_network, margin, thumbnail

FITTED, CHOSEN_ON = (1, 2, 3), 4
FILTERS = (16, 32, 32)
# Of fold 4's radiographs: the share that the threshold flags.
FALSE_ALARMS = 0.001
# Samples are drawn in rounds, each seen twice, since drawing takes longer than learning.
ROUNDS, DRAWN, PASSES, BATCH, SEED = 30, 24_000, 2, 128, 2026


def fit(data: Path, output: Path) -> None:
    """Write the network's weights and threshold to `output`."""
    prepared = prepare_all(datasets.load(data), 256, cache_folder())
    folds = np.array([image.fold for image in prepared.dataset.images])
    images = reduced(prepared, np.flatnonzero(np.isin(folds, FITTED)))
    keras.utils.set_random_seed(SEED)
    model = network()
    train(model, images)
    # The threshold is chosen by the code that will apply it.
    write(model, output, threshold=0.0)
    held_out = reduced(prepared, np.flatnonzero(folds == CHOSEN_ON))
    margins = margin(load_network(output).logits(np.stack([thumbnail(one) for one in held_out])))
    write(model, output, threshold=float(np.quantile(margins, FALSE_ALARMS)))


def network() -> keras.Model:
    """The network in Keras: `(B, SIDE, SIDE, 1)` gray 0-255 to logits of `CLASSES`."""
    layers = [
        keras.layers.Conv2D(count, 3, 2, "same", activation="relu", name=f"conv{number}")
        for number, count in enumerate(FILTERS, 1)
    ]
    return keras.Sequential(
        [
            keras.Input((SIDE, SIDE, 1)),
            keras.layers.Rescaling(1 / 127.5, -1),
            *layers,
            keras.layers.Flatten(),
            keras.layers.Dropout(0.2),
            keras.layers.Dense(len(CLASSES), name="dense"),
        ]
    )


def reduced(prepared: PreparedImages, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Prepared images `(N, WORKING_SIDE, WORKING_SIDE)` uint8."""
    images = np.empty((len(rows), WORKING_SIDE, WORKING_SIDE), np.uint8)
    for place, row in enumerate(rows):
        images[place] = resize_area(prepared.images(int(row)), WORKING_SIDE, WORKING_SIDE)
    return images


def train(model: keras.Model, images: NDArray[np.uint8]) -> None:
    """Fit on new samples in every round."""
    steps = ROUNDS * PASSES * (DRAWN // BATCH)
    rate = keras.optimizers.schedules.CosineDecay(2e-3, steps)
    model.compile(
        keras.optimizers.AdamW(rate, weight_decay=1e-3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    random = np.random.default_rng(SEED)
    for number in range(1, ROUNDS + 1):
        drawn = [sample(images, random) for _ in range(DRAWN)]
        inputs = np.stack([image for image, _ in drawn])[..., None]
        labels = np.array([label for _, label in drawn])
        history = model.fit(inputs, labels, BATCH, epochs=PASSES, verbose=0).history
        figures = {name: round(values[0], 4) for name, values in history.items()}
        print(f"round {number} of {ROUNDS}: {figures}", flush=True)


def write(model: keras.Model, path: Path, threshold: float) -> None:
    """Write weights and threshold as safetensors, float32."""
    tensors = {"threshold": np.array([threshold], np.float32)}
    for layer in model.layers:
        for variable in layer.weights:
            if "seed" not in variable.path:
                tensors[f"{layer.name}/{variable.name}"] = np.ascontiguousarray(variable.numpy())
    with atomic_write(path, "wb") as file:
        file.write(save(tensors, metadata={"architecture": "frontal"}))
