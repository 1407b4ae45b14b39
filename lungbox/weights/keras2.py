"""Weight files of Keras 2 (`.h5`), as the reference system's were published.

HDF5 can do much that a weight file has no use for: link to other files, store its data in them,
load filters as plugins. Only plain arrays are read, and only those of the size that is expected.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lungbox.weights.files import WeightsError

if TYPE_CHECKING:
    import h5py
    import keras

# A file of full networks has some thousand weights; an attribute of more is no list of names.
_MOST_NAMES = 100_000
# Deflate, shuffle, checksum and LZF, by HDF5's numbers: any other would be loaded as a plugin.
_FILTERS = {1, 2, 3, 32000}


@dataclass(frozen=True)
class _Stored:
    """One weight of the file: where it stands, and its array, not read yet."""

    layer: str
    name: str
    array: "h5py.Dataset"


def load_keras2(model: "keras.Model", path: Path) -> None:
    """Fill every weight of `model` from a Keras 2 weight file.

    Weights are matched by their order, layer by layer, as Keras 2 itself loads them; never by
    name, for Keras numbers layers by what was built before in the session that saved them.

    Args:
        model: the same network, its layers with weights in the same topological order.
        path: a file of `save_weights`, or of `save`, whose weights alone are read.

    Raises:
        WeightsError: it is no such file, does not fit (the first mismatch is named), or uses
            more of HDF5 than arrays.
    """
    import h5py

    layers = [layer for layer in model.layers if layer.weights]
    try:
        with h5py.File(path, "r") as file:
            stored = _by_layer(file)
            if len(stored) != len(layers):
                raise WeightsError(
                    f"{path}: has {len(stored)} layers with weights, {model.name} has {len(layers)}"
                )
            arrays = [
                _fitting(path, layer, weights)
                for layer, weights in zip(layers, stored, strict=True)
            ]
    except WeightsError:
        raise
    except (OSError, KeyError, ValueError, TypeError, RuntimeError) as error:
        raise WeightsError(f"{path}: not a readable Keras 2 weight file ({error})") from error
    for layer, values in zip(layers, arrays, strict=True):
        for variable, value in zip(layer.weights, values, strict=True):
            variable.assign(value)


def _by_layer(file: "h5py.File") -> list[list[_Stored]]:
    """The weights of each layer that has any, in the file's order."""
    # `save` puts them in a group beside optimizer and configuration.
    root = _member(file, "model_weights") if "model_weights" in file else file
    groups = ((name, _member(root, name)) for name in _names(root.attrs, "layer_names"))
    layers = (
        [_Stored(layer, name, _member(group, name)) for name in _names(group.attrs, "weight_names")]
        for layer, group in groups
    )
    return [weights for weights in layers if weights]


def _names(attributes: Any, key: str) -> list[str]:
    """A list of names; Keras cuts a long one into `key0`, `key1`, ..., as HDF5 wants it."""
    parts = [attributes[key]] if key in attributes else list(_numbered(attributes, key))
    if not parts:
        raise ValueError(f"it has no attribute {key}")
    names = [name for part in parts for name in np.asarray(part).ravel().tolist()]
    if len(names) > _MOST_NAMES:
        raise ValueError(f"{key} holds {len(names)} names")
    return [name.decode("utf-8") if isinstance(name, bytes) else str(name) for name in names]


def _numbered(attributes: Any, key: str) -> Iterator[Any]:
    number = 0
    while f"{key}{number}" in attributes:
        yield attributes[f"{key}{number}"]
        number += 1


def _member(group: "h5py.Group", name: str) -> Any:
    """A group or array inside `group`, by a path of hard links only."""
    import h5py

    member: Any = group
    for part in name.strip("/").split("/"):
        if not isinstance(member.get(part, getlink=True), h5py.HardLink):
            raise ValueError(f"{name} is a link, or is not there")
        member = member[part]
    return member


def _fitting(path: Path, layer: "keras.Layer", weights: list[_Stored]) -> list[NDArray]:
    if len(weights) != len(layer.weights):
        raise WeightsError(
            f"{path}: {weights[0].layer} has {len(weights)} weights, {layer.name} has "
            f"{len(layer.weights)}"
        )
    arrays = []
    for variable, stored in zip(layer.weights, weights, strict=True):
        array = stored.array
        # Before it is read: a shape that fits bounds how much is.
        if tuple(array.shape) != tuple(variable.shape):
            raise WeightsError(
                f"{path}: {stored.name} has shape {tuple(array.shape)}, {variable.path} needs "
                f"{tuple(variable.shape)}"
            )
        _check_plain(stored)
        arrays.append(np.asarray(array[()], np.float32))
    return arrays


def _check_plain(stored: _Stored) -> None:
    array = stored.array
    if array.external or array.is_virtual:
        raise ValueError(f"{stored.name} keeps its values in another file")
    settings = array.id.get_create_plist()
    filters = {settings.get_filter(i)[0] for i in range(settings.get_nfilters())}
    if filters - _FILTERS or array.dtype.kind != "f":
        raise ValueError(f"{stored.name} is not an array of floats that Keras would write")
