"""Networks of `keras.applications` as encoders."""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

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
class Preprocessing:
    """Means and standard deviations of 0-255 images, by channel, for ImageNet weights."""

    means: tuple[float, float, float]
    deviations: tuple[float, float, float] = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class _Application:
    """A network of `keras.applications`.

    Attributes:
        build: makes it.
        preprocessing: of the images its ImageNet weights expect.
        first: its first layer after preprocessing layers of its own; empty where it has none.
        numbered: whether Keras numbers some of its layers that have weights, see `layer_names`.
    """

    build: Callable[..., keras.Model]
    preprocessing: Preprocessing
    first: str = ""
    numbered: bool = False


# The preprocessing modes `caffe`, `torch` and `tf` of keras.applications. EfficientNet's own layers
# compute `torch` with the values of its ImageNet weights.
CAFFE = Preprocessing((103.939, 116.779, 123.68))
TORCH = Preprocessing(
    (0.485 * 255, 0.456 * 255, 0.406 * 255), (0.229 * 255, 0.224 * 255, 0.225 * 255)
)
SYMMETRIC = Preprocessing((127.5, 127.5, 127.5), (127.5, 127.5, 127.5))
_APPLICATIONS = {
    "ResNet50": _Application(keras.applications.ResNet50, CAFFE),
    "ResNet152": _Application(keras.applications.ResNet152, CAFFE),
    "DenseNet121": _Application(keras.applications.DenseNet121, TORCH),
    "DenseNet169": _Application(keras.applications.DenseNet169, TORCH),
    "VGG19": _Application(keras.applications.VGG19, CAFFE),
    "EfficientNetB4": _Application(keras.applications.EfficientNetB4, TORCH, "stem_conv_pad"),
    "InceptionResNetV2": _Application(
        keras.applications.InceptionResNetV2, SYMMETRIC, numbered=True
    ),
    "Xception": _Application(keras.applications.Xception, SYMMETRIC, numbered=True),
}
APPLICATIONS = tuple(_APPLICATIONS)
# Names that Keras gives, with a number that counts the layers of all networks in the process.
_NUMBERED = re.compile(
    r"(activation|add|average_pooling2d|batch_normalization|conv2d|custom_scale_layer"
    r"|max_pooling2d)(_\d+)?"
)


def application(
    name: str,
    inputs: KerasTensor,
    taps: Taps,
    scaling: Scaling = "own",
) -> Features:
    """A `keras.applications` network as an encoder of `(B, H, W, 1)` gray 0-255.

    Its weights are random. Its layers keep their names, so that published weights can be loaded,
    or get those of `layer_names`.

    Args:
        name: one of `APPLICATIONS`.
        inputs: the image, which becomes all three channels.
        taps: the layers of the features.
        scaling: `own`, that of its ImageNet weights; `symmetric`, -1..1, that of the reference
            system for all networks.
    """
    known = _APPLICATIONS[name]
    image = three_channels(inputs, known.preprocessing if scaling == "own" else None)
    if known.first or known.numbered:
        tensors = _copied(known.build(include_top=False, weights=None), known.first, image)
    else:
        backbone = known.build(include_top=False, weights=None, input_tensor=image)
        tensors = {layer.name: layer.output for layer in backbone.layers}
    tensors[IMAGE] = image
    bridge = tensors[taps.bridge]
    return Features(tuple(tensors[tap] for tap in taps.skips), bridge, pooled=bridge)


def layer_names(backbone: keras.Model) -> dict[str, str]:
    """The names of a network's layers in ours, by those they have in `backbone`.

    Keras numbers layers without a name by how many it has made before. These names are the keys of
    weight files, so here the numbers begin at 0 in every network.

    >>> inputs = keras.Input((8, 8, 1), name="image")
    >>> x = layers.Conv2D(4, 3, name="conv2d_205")(inputs)
    >>> layer_names(keras.Model(inputs, layers.Conv2D(4, 3, name="last")(x)))
    {'image': 'image', 'conv2d_205': 'conv2d_0', 'last': 'last'}
    """
    counts: Counter[str] = Counter()
    names = {}
    for layer in backbone.layers:
        names[layer.name] = layer.name
        if found := _NUMBERED.fullmatch(layer.name):
            kind = found.group(1)
            names[layer.name] = f"{kind}_{counts[kind]}"
            counts[kind] += 1
    return names


def _copied(backbone: keras.Model, first: str, image: KerasTensor) -> dict[str, KerasTensor]:
    """The outputs, by layer, of new layers as those of `backbone` from `first` on, on `image`."""
    names, tensors = layer_names(backbone), dict[str, KerasTensor]()

    def copy(layer: layers.Layer) -> layers.Layer:
        return layer.from_config({**layer.get_config(), "name": names[layer.name]})

    def call(layer: layers.Layer, *args: Any, **kwargs: Any) -> KerasTensor:
        tensors[layer.name] = layer(*args, **kwargs)
        return tensors[layer.name]

    start = backbone.get_layer(first).input if first else backbone.input
    rest = keras.Model(start, backbone.output)
    keras.models.clone_model(rest, image, clone_function=copy, call_function=call)
    return tensors


def three_channels(inputs: KerasTensor, preprocessing: Preprocessing | None) -> KerasTensor:
    """`(B, H, W, 1)` gray 0-255 to three equal channels, scaled; to -1..1 where that is None."""
    x = layers.Concatenate(name="encoder_channels")([inputs, inputs, inputs])
    if preprocessing is None:
        return layers.Rescaling(1 / 127.5, offset=-1.0, name="encoder_scaling")(x)
    variances = [deviation**2 for deviation in preprocessing.deviations]
    return layers.Normalization(
        mean=list(preprocessing.means), variance=variances, name="encoder_scaling"
    )(x)
