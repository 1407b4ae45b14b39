"""Networks of `keras.applications` as encoders: ResNet152, DenseNet121, VGG19."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import keras
from keras import KerasTensor, layers

from lungbox.architecture.backbones.efficientnet_lite import Features

Scaling = Literal["own", "symmetric"]


@dataclass(frozen=True)
class Taps:
    """The layers of a `keras.applications` network whose outputs are the features.

    Attributes:
        skips: names of layers, shallow to deep; `IMAGE` is the scaled image.
        bridge: name of the deepest layer; later ones are removed.
    """

    skips: tuple[str, ...]
    bridge: str


IMAGE = "image"


@dataclass(frozen=True)
class _Application:
    """A network, and the means and standard deviations of 0-255 images for its ImageNet weights."""

    build: Callable[..., keras.Model]
    means: tuple[float, float, float]
    deviations: tuple[float, float, float] = (1.0, 1.0, 1.0)


# The preprocessing modes `caffe` and `torch` of keras.applications.
_CAFFE = (103.939, 116.779, 123.68)
_TORCH_MEANS = (0.485 * 255, 0.456 * 255, 0.406 * 255)
_TORCH_DEVIATIONS = (0.229 * 255, 0.224 * 255, 0.225 * 255)
_APPLICATIONS = {
    "ResNet152": _Application(keras.applications.ResNet152, _CAFFE),
    "DenseNet121": _Application(keras.applications.DenseNet121, _TORCH_MEANS, _TORCH_DEVIATIONS),
    "VGG19": _Application(keras.applications.VGG19, _CAFFE),
}


def application(
    name: str,
    inputs: KerasTensor,
    taps: Taps,
    scaling: Scaling = "own",
) -> Features:
    """A `keras.applications` network as an encoder of `(B, H, W, 1)` gray 0-255.

    Its weights are random. Its layers keep their names, so that published weights can be loaded.

    Args:
        name: `ResNet152`, `DenseNet121` or `VGG19`.
        inputs: the image, which becomes all three channels.
        taps: the layers of the features.
        scaling: `own`, that of its ImageNet weights; `symmetric`, -1..1, that of the reference
            system for all networks.
    """
    known = _APPLICATIONS[name]
    image = _three_channels(inputs, known, scaling)
    backbone = known.build(include_top=False, weights=None, input_tensor=image)
    tapped = {tap: backbone.get_layer(tap).output for tap in {*taps.skips, taps.bridge} - {IMAGE}}
    tapped[IMAGE] = image
    bridge = tapped[taps.bridge]
    return Features(tuple(tapped[tap] for tap in taps.skips), bridge, pooled=bridge)


def _three_channels(inputs: KerasTensor, known: _Application, scaling: Scaling) -> KerasTensor:
    x = layers.Concatenate(name="encoder_channels")([inputs, inputs, inputs])
    if scaling == "symmetric":
        return layers.Rescaling(1 / 127.5, offset=-1.0, name="encoder_scaling")(x)
    variances = [deviation**2 for deviation in known.deviations]
    return layers.Normalization(mean=list(known.means), variance=variances, name="encoder_scaling")(
        x
    )
