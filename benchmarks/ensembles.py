"""Ensembles whose speed is of interest and whose weights are not: random ones, as real files."""

from pathlib import Path

from lungbox.common.backend import start_keras

start_keras()  # quietly, before anything imports it

import keras  # noqa: E402
import numpy as np  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

from lungbox import architecture  # noqa: E402
from lungbox.engines import EngineConfig, Int8, Member  # noqa: E402
from lungbox.weights.entries import Weights  # noqa: E402
from lungbox.weights.formats.safetensors import save_weights  # noqa: E402
from lungbox.weights.store import sha256  # noqa: E402

FOUR = ("unet_resnet152", "unet_densenet121", "unet_vgg19_attention", "aspp_resnet152")
REFERENCE = tuple(f"{name}_reference" for name in FOUR)
# Networks and the side of their input, in pixels.
ENSEMBLES: dict[str, tuple[tuple[str, ...], int]] = {
    "lite0": (("unet_lite0",), 256),
    "four": (FOUR, 128),
    "reference": (REFERENCE, 128),
}


def write_weights(name: str, folder: Path) -> list[Path]:
    """Write random weights of each network of an ensemble, unless they are there."""
    networks, side = ENSEMBLES[name]
    paths = [folder / f"{network}.safetensors" for network in networks]
    folder.mkdir(parents=True, exist_ok=True)
    for network, path in zip(networks, paths, strict=True):
        if not path.is_file():
            keras.utils.set_random_seed(0)
            save_weights(architecture.build(network, side), path)
    return paths


def random_config(name: str, folder: Path, batch_size: int) -> EngineConfig:
    """An ensemble of `ENSEMBLES` with random weights, kept in `folder`, for engines."""
    networks, side = ENSEMBLES[name]
    members = [
        Member(network, Weights(architecture=network, image_size=side), path, 1 / len(networks))
        for network, path in zip(networks, write_weights(name, folder), strict=True)
    ]
    return EngineConfig(name, tuple(members), batch_size)


def int8_model(config: EngineConfig, folder: Path, images: NDArray[np.uint8]) -> Int8:
    """Its INT8 model, in a file in `folder`. Agreement of random weights means nothing, so as
    in the default's, depthwise and the first convolutions stay in float32."""
    from lungbox.engines.openvino import converted, save_int8
    from lungbox.quantization.model import STEPS, quantize

    step = STEPS[2] if config.ensemble == "lite0" else STEPS[0]
    path = (folder / "int8.safetensors").resolve()
    save_int8(quantize(converted(config), images, [step]).network, path)
    return Int8(path, sha256(path))
