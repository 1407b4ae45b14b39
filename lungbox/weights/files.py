"""Weight files: safetensors whose keys are Keras variable paths. Never code, never pickle."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from lungbox.errors import LungboxError
from lungbox.files import replacing

if TYPE_CHECKING:
    import keras  # reading a manifest or a file's hash must not start a framework

DTYPES = ("float16", "float32")


class WeightsError(LungboxError):
    """A weight file cannot be used; the message says which, why and what to do."""


def save_weights(model: "keras.Model", path: Path, dtype: str = "float32") -> None:
    """Write every weight of `model` to `path`, atomically.

    Args:
        model: a built network.
        path: the `.safetensors` file to write.
        dtype: `float16` halves the file; trained weights fit it (they are far from its limits).

    Raises:
        ValueError: another dtype, or a weight that is not finite in it.
    """
    if dtype not in DTYPES:
        raise ValueError(f"weights are stored as {' or '.join(DTYPES)}, not {dtype}")
    tensors = {}
    for variable in model.weights:
        with np.errstate(over="ignore"):
            tensor = np.ascontiguousarray(variable.numpy(), dtype=dtype)
        if not np.isfinite(tensor).all():
            raise ValueError(f"{variable.path} is not finite as {dtype}")
        tensors[variable.path] = tensor
    with replacing(path, "wb") as file:
        file.write(save(tensors, metadata={"architecture": model.name}))


def load_weights(model: "keras.Model", path: Path) -> None:
    """Fill every weight of `model` from `path`.

    Raises:
        WeightsError: the file is no safetensors file, or its tensors are not the model's; the
            first that differs is named.
    """
    tensors = read_tensors(path)
    expected = {variable.path: tuple(variable.shape) for variable in model.weights}
    for key, shape in expected.items():
        if key not in tensors:
            raise WeightsError(f"{path}: has no weights for {key} of {model.name}")
        if tensors[key].shape != shape:
            raise WeightsError(
                f"{path}: {key} has shape {tensors[key].shape}, {model.name} needs {shape}"
            )
    if extra := sorted(set(tensors) - set(expected)):
        raise WeightsError(f"{path}: holds {extra[0]}, which {model.name} does not have")
    for variable in model.weights:
        variable.assign(tensors[variable.path].astype(np.float32))


def read_tensors(path: Path) -> dict[str, NDArray]:
    """All tensors of a safetensors file, by variable path.

    Raises:
        WeightsError: it cannot be read as one.
    """
    try:
        return load_file(path)
    except FileNotFoundError:
        raise WeightsError(f"{path}: there is no such weight file") from None
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path}: not a readable safetensors file ({error})") from error
