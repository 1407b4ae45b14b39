"""Reads a PyTorch checkpoint of the format before version 1.6, without PyTorch and without running
code in it.

Such a file is five pickles (magic number, protocol, system, state dictionary, storage keys), then
the raw storages. Unpickling can call any function, so this unpickler allows only the four names
that a state dictionary of float tensors needs.
"""

import pickle
import struct
from collections import OrderedDict
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from lungbox.weights.formats.safetensors import WeightsError

_MAGIC = 0x1950A86A20F9469CFC6C
_STORAGES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}


class _Tensor:
    """A tensor whose storage has not been read yet."""

    def __init__(self, storage: tuple, offset: int, shape: tuple, stride: tuple, *_: object):
        self.key, self.dtype = storage
        self.offset, self.shape, self.stride = offset, shape, stride


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> object:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _Tensor
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        raise pickle.UnpicklingError(f"it names {module}.{name}, which weights do not need")

    def persistent_load(self, saved: tuple) -> tuple[str, np.dtype]:
        _, dtype, key, *_ = saved
        return key, dtype


def read_state_dict(path: Path) -> dict[str, NDArray]:
    """The tensors of a legacy `.pth` file, in its order.

    Raises:
        WeightsError: it is not such a file, or holds more than tensors.
    """
    try:
        with path.open("rb") as file:
            if _Unpickler(file).load() != _MAGIC:
                raise pickle.UnpicklingError("it does not start as a PyTorch checkpoint")
            _Unpickler(file).load()  # protocol version
            _Unpickler(file).load()  # sizes of C types
            state = _Unpickler(file).load()
            keys = _Unpickler(file).load()
            dtypes = {tensor.key: tensor.dtype for tensor in state.values()}
            storages = {key: _read_storage(file, dtypes[key]) for key in keys}
        return {name: _view(tensor, storages[tensor.key]) for name, tensor in state.items()}
    except (pickle.UnpicklingError, EOFError, struct.error, KeyError, ValueError) as error:
        raise WeightsError(f"{path}: not a readable PyTorch state dictionary ({error})") from error


def _read_storage(file: BinaryIO, dtype: np.dtype) -> NDArray:
    (count,) = struct.unpack("<q", file.read(8))
    data = file.read(count * dtype.itemsize)
    return np.frombuffer(data, dtype, count)


def _view(tensor: _Tensor, storage: NDArray) -> NDArray:
    """The tensor with its own strides, which must stay inside the storage."""
    steps = zip(tensor.shape, tensor.stride, strict=True)
    last = tensor.offset + sum((size - 1) * step for size, step in steps)
    if min((0, tensor.offset, *tensor.stride)) < 0 or last >= storage.size:
        raise ValueError("a tensor reaches outside its storage")
    strides = tuple(step * storage.itemsize for step in tensor.stride)
    view = np.lib.stride_tricks.as_strided(storage[tensor.offset :], tensor.shape, strides)
    return np.ascontiguousarray(view)
