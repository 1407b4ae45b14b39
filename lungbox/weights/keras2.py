"""Weight files of Keras 2 (`.h5`), as the reference system's were published.

HDF5 can do much that a weight file has no use for: link to other files, store its data in them,
load filters as plugins. Only plain arrays are read, and only those of the size that is expected.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lungbox.weights.files import WeightsError, check_finite

if TYPE_CHECKING:
    import h5py
    import keras

# A file of full networks has some thousand weights; an attribute of more is no list of names.
_MOST_NAMES = 100_000
# Compressed, or never written, an array can be far larger than its file; networks are not.
_MOST_BYTES = 4 << 30
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
        WeightsError: it is no such file, does not fit (the first mismatch is named), uses more of
            HDF5 than arrays, or holds what is not finite.
    """
    with _opened(path) as file:
        pairs = _pairs(model, path, file)
        values = [_values(path, stored) for _, stored in pairs]
    for (variable, _), value in zip(pairs, values, strict=True):
        variable.assign(value)


def check_keras2(model: "keras.Model", path: Path) -> None:
    """Check that `load_keras2` can fill `model` from `path`, without reading a weight.

    Raises:
        WeightsError: as `load_keras2` does.
    """
    with _opened(path) as file:
        _pairs(model, path, file)


def check_whole(path: Path) -> None:
    """Check that a Keras 2 weight file ends where it says, and that every weight it names is there.

    Raises:
        WeightsError: it is cut off or longer than it should be, or cannot be read.
    """
    with _opened(path) as file:
        size, end = path.stat().st_size, _end(path)
        if size != end:
            raise WeightsError(f"{path}: has {size:,} bytes instead of {end:,}")
        for weights in _by_layer(file):
            for stored in weights:
                _check_plain(stored)


def check_all_finite(path: Path) -> None:
    """Check that no weight of a Keras 2 weight file holds NaN or infinity, one after the other.

    Raises:
        WeightsError: one does; the first is named. Or the file cannot be read.
    """
    with _opened(path) as file:
        every = [stored for weights in _by_layer(file) for stored in weights]
        size = sum(stored.array.nbytes for stored in every)
        if size > _MOST_BYTES:
            raise ValueError(f"it holds {size:,} bytes of weights, more than any network has")
        for stored in every:
            _check_plain(stored)
            _values(path, stored)


def _values(path: Path, stored: _Stored) -> np.ndarray:
    with np.errstate(over="ignore"):
        values = np.asarray(stored.array[()], np.float32)
    check_finite(path, stored.name, values)
    return values


@contextmanager
def _opened(path: Path) -> "Iterator[h5py.File]":
    """The file, and HDF5's errors in a sentence."""
    import h5py

    if not path.is_file():
        raise WeightsError(f"{path}: there is no such weight file")
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, KeyError, ValueError, TypeError, RuntimeError, AttributeError) as error:
        raise WeightsError(f"{path}: not a readable Keras 2 weight file ({error})") from error


def _end(path: Path) -> int:
    """The file's own end-of-file address, which stands in its first bytes."""
    with path.open("rb") as file:
        start = file.read(64)
    version = start[8]
    if version > 3:
        raise ValueError(f"HDF5 superblock of version {version}")
    # An offset's width in bytes, and where the address stands, behind others of that width.
    width, place = (start[13], 24 + 4 * version) if version < 2 else (start[9], 12)
    place += 2 * width
    return int.from_bytes(start[place : place + width], "little")


def _pairs(
    model: "keras.Model", path: Path, file: "h5py.File"
) -> "list[tuple[keras.Variable, _Stored]]":
    """Each variable of `model` and the file's weight for it, checked."""
    layers = [layer for layer in model.layers if layer.weights]
    stored = _by_layer(file)
    if len(stored) != len(layers):
        raise WeightsError(
            f"{path}: has {len(stored)} layers with weights, {model.name} has {len(layers)}"
        )
    return [
        pair
        for layer, weights in zip(layers, stored, strict=True)
        for pair in _fitting(path, layer, weights)
    ]


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


def _fitting(
    path: Path, layer: "keras.Layer", weights: list[_Stored]
) -> "list[tuple[keras.Variable, _Stored]]":
    if len(weights) != len(layer.weights):
        raise WeightsError(
            f"{path}: {weights[0].layer} has {len(weights)} weights, {layer.name} has "
            f"{len(layer.weights)}"
        )
    pairs = list(zip(layer.weights, weights, strict=True))
    for variable, stored in pairs:
        shape = tuple(stored.array.shape)
        # Before it is read: a shape that fits bounds how much is.
        if shape != tuple(variable.shape):
            raise WeightsError(
                f"{path}: {stored.name} has shape {shape}, {variable.path} needs "
                f"{tuple(variable.shape)}"
            )
        _check_plain(stored)
    return pairs


def _check_plain(stored: _Stored) -> None:
    array = stored.array
    if array.external or array.is_virtual:
        raise ValueError(f"{stored.name} keeps its values in another file")
    settings = array.id.get_create_plist()
    filters = {settings.get_filter(i)[0] for i in range(settings.get_nfilters())}
    if filters - _FILTERS or array.dtype.kind != "f":
        raise ValueError(f"{stored.name} is not an array of floats that Keras would write")
