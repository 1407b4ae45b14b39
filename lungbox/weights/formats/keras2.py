"""Weight files of Keras 2 (`.h5`), as the reference system's were published.

HDF5 can do more than a weight file needs: link to other files, store data in them, load filters as
plugins. Only plain arrays of the expected shapes are read.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lungbox.weights.formats.safetensors import WeightsError, check_finite

if TYPE_CHECKING:
    import h5py
    import keras

# Large networks have some thousand weights; an attribute with more is no list of names.
_MAX_NAMES = 100_000
# A compressed or unwritten array can be far larger than its file.
_MAX_BYTES = 4 << 30
# Deflate, shuffle, checksum and LZF, by HDF5's ids: any other would be loaded as a plugin.
_FILTERS = {1, 2, 3, 32000}


@dataclass(frozen=True)
class _Stored:
    """One weight of the file, not read yet."""

    layer: str
    name: str
    array: "h5py.Dataset"


def load_keras2(model: "keras.Model", path: Path) -> None:
    """Fill every weight of `model` from a Keras 2 weight file.

    Weights are matched by order, layer by layer, as Keras 2 itself does; not by name, because Keras
    numbers layers by what was built before in the session that saved them.

    Args:
        model: the same network, its layers with weights in the same topological order.
        path: a file of `save_weights`, or of `save`, of which only the weights are read.

    Raises:
        WeightsError: it is not such a file, does not fit (the first mismatch is named), uses more
            of HDF5 than arrays, or has values that are not finite.
    """
    with _opened(path) as file:
        pairs = _pairs(model, path, file)
        values = [_values(path, stored) for _, stored in pairs]
    for (variable, _), value in zip(pairs, values, strict=True):
        variable.assign(value)


def check_all_finite(path: Path) -> None:
    """Check that a Keras 2 weight file is complete and holds neither NaN nor infinity, reading one
    weight at a time.

    Raises:
        WeightsError: it is shorter or longer than its header says, a value is not finite (the first
            such weight is named), or it cannot be read.
    """
    with _opened(path) as file:
        size, end = path.stat().st_size, _end(path)
        if size != end:
            raise WeightsError(f"{path}: has {size:,} bytes instead of {end:,}")
        every = [stored for weights in _by_layer(file) for stored in weights]
        total = sum(stored.array.nbytes for stored in every)
        if total > _MAX_BYTES:
            raise ValueError(f"it holds {total:,} bytes of weights, more than any network has")
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
    """The open file; HDF5's errors become a `WeightsError`."""
    import h5py

    if not path.is_file():
        raise WeightsError(f"{path}: there is no such weight file")
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, KeyError, ValueError, TypeError, RuntimeError, AttributeError) as error:
        raise WeightsError(f"{path}: not a readable Keras 2 weight file ({error})") from error


def _end(path: Path) -> int:
    """The end-of-file address in the file's superblock."""
    with path.open("rb") as file:
        start = file.read(64)
    version = start[8]
    if version > 3:
        raise ValueError(f"HDF5 superblock of version {version}")
    # Size of an address in bytes, and position of the first of them; the third is the end of file.
    width, position = (start[13], 24 + 4 * version) if version < 2 else (start[9], 12)
    position += 2 * width
    return int.from_bytes(start[position : position + width], "little")


def _pairs(
    model: "keras.Model", path: Path, file: "h5py.File"
) -> "list[tuple[keras.Variable, _Stored]]":
    """Each variable of `model` with the file's weight for it, checked."""
    layers = [layer for layer in model.layers if layer.weights]
    stored = _by_layer(file)
    if len(stored) != len(layers):
        raise WeightsError(
            f"{path}: has {len(stored)} layers with weights, {model.name} has {len(layers)}"
        )
    pairs: list[tuple[keras.Variable, _Stored]] = []
    for layer, weights in zip(layers, stored, strict=True):
        if len(weights) != len(layer.weights):
            raise WeightsError(
                f"{path}: {weights[0].layer} has {len(weights)} weights, {layer.name} has "
                f"{len(layer.weights)}"
            )
        pairs += zip(layer.weights, weights, strict=True)
    for variable, one in pairs:
        # Before it is read: a matching shape limits its size.
        if tuple(one.array.shape) != tuple(variable.shape):
            raise WeightsError(
                f"{path}: {one.name} has shape {tuple(one.array.shape)}, {variable.path} needs "
                f"{tuple(variable.shape)}"
            )
        _check_plain(one)
    return pairs


def _by_layer(file: "h5py.File") -> list[list[_Stored]]:
    """The weights of each layer that has any, in the file's order."""
    # `save` writes them to a group beside optimizer and configuration.
    root = _member(file, "model_weights") if "model_weights" in file else file
    groups = ((name, _member(root, name)) for name in _names(root.attrs, "layer_names"))
    layers = (
        [_Stored(layer, name, _member(group, name)) for name in _names(group.attrs, "weight_names")]
        for layer, group in groups
    )
    return [weights for weights in layers if weights]


def _names(attributes: Any, key: str) -> list[str]:
    """A list of names; Keras splits a long one into attributes `key0`, `key1`, ..."""
    numbered = takewhile(attributes.__contains__, (f"{key}{i}" for i in count()))
    parts = [key] if key in attributes else list(numbered)
    if not parts:
        raise ValueError(f"it has no attribute {key}")
    names = [name for part in parts for name in np.asarray(attributes[part]).ravel().tolist()]
    if len(names) > _MAX_NAMES:
        raise ValueError(f"{key} holds {len(names)} names")
    return [name.decode("utf-8") if isinstance(name, bytes) else str(name) for name in names]


def _member(group: "h5py.Group", name: str) -> Any:
    """A group or array inside `group`, through hard links only."""
    import h5py

    member: Any = group
    for part in name.strip("/").split("/"):
        if not isinstance(member.get(part, getlink=True), h5py.HardLink):
            raise ValueError(f"{name} is a link, or is not there")
        member = member[part]
    return member


def _check_plain(stored: _Stored) -> None:
    array = stored.array
    if array.external or array.is_virtual:
        raise ValueError(f"{stored.name} keeps its values in another file")
    settings = array.id.get_create_plist()
    filters = {settings.get_filter(i)[0] for i in range(settings.get_nfilters())}
    if filters - _FILTERS or array.dtype.kind != "f":
        raise ValueError(f"{stored.name} is not an array of floats that Keras would write")
