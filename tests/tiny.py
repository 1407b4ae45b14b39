"""A small network with random weights, registered in the manifest: finds nothing sensible, and is
enough for everything around a network.

By default it is `two_convolutions`; where it is run, it has to be known by name:
`usefixtures("small_networks")`.
"""

from pathlib import Path

import keras
import numpy as np

from lungbox import architecture
from lungbox.weights.entries import Ensemble, Weights
from lungbox.weights.formats.safetensors import save_weights
from lungbox.weights.manifest import register
from lungbox.weights.store import sha256
from tests.small import two_convolutions

SIDE, NETWORK = 64, "two_convolutions"


def enter_tiny(
    folder: Path, name: str = "tiny", seed: int = 1, network: str = NETWORK, **ensemble
) -> Path:
    """Build a network at 64 px, make its masks vary, save it in `folder` and register it."""
    path = save_tiny(folder / f"{name}.safetensors", seed, network)
    weights = weights_of(path, network=network, folds=(1, 2, 3, 4))
    register(name, weights, Ensemble(**({"members": (name,), "min_area": 0.0} | ensemble)))
    return path


def weights_of(path: Path, image_size: int = SIDE, network: str = NETWORK, **facts) -> Weights:
    """The entry of a file of a network's weights."""
    return Weights(
        architecture=network,
        image_size=image_size,
        sha256=sha256(path),
        bytes=path.stat().st_size,
        sources=(f"file:{path}",),
        **facts,
    )


def save_tiny(path: Path, seed: int, network: str = NETWORK) -> Path:
    keras.utils.set_random_seed(seed)
    model = two_convolutions(SIDE) if network == NETWORK else architecture.build(network, SIDE)
    random = np.random.default_rng(seed)
    for variable in model.weights:
        # So that about half of every mask is opacity, in many small regions.
        if variable.path == "mask_logits/kernel":
            variable.assign(random.normal(0, 30, variable.shape))
    save_weights(model, path)
    return path
