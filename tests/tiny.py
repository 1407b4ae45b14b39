"""A small network with random weights, entered in the manifest: runs anywhere, finds nothing
sensible, and is enough for everything around a network."""

from pathlib import Path

import keras
import numpy as np

from lungbox import architecture
from lungbox.weights.fetch import sha256
from lungbox.weights.files import save_weights
from lungbox.weights.manifest import Ensemble, Weights, enter

SIDE = 64


def enter_tiny(folder: Path, name: str = "tiny", seed: int = 1, **ensemble) -> Path:
    """Build `unet_lite0` at 64 px, make its masks vary, save it in `folder` and enter it."""
    path = save_tiny(folder / f"{name}.safetensors", seed)
    weights = weights_of(path, folds=(1, 2, 3, 4))
    enter(name, weights, Ensemble(**({"members": (name,), "min_area": 0.0} | ensemble)))
    return path


def weights_of(path: Path, image_size: int = SIDE, **facts) -> Weights:
    """The entry of a file of `unet_lite0`'s weights."""
    return Weights(
        architecture="unet_lite0",
        image_size=image_size,
        sha256=sha256(path),
        bytes=path.stat().st_size,
        sources=(f"file:{path}",),
        **facts,
    )


def save_tiny(path: Path, seed: int) -> Path:
    keras.utils.set_random_seed(seed)
    model = architecture.build("unet_lite0", SIDE)
    random = np.random.default_rng(seed)
    for variable in model.weights:
        # So that about half of every mask is opacity, in many small regions.
        if variable.path == "mask_logits/kernel":
            variable.assign(random.normal(0, 30, variable.shape))
    save_weights(model, path)
    return path
