"""Weight files: safetensors whose keys are Keras variable paths. Never code, never pickle."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
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
        WeightsError: the file is no safetensors file, its tensors are not the model's (the first
            that differs is named), or one of them is not finite.
    """
    tensors = read_tensors(path)
    _check_fit(model, path, {key: tensor.shape for key, tensor in tensors.items()})
    for variable in model.weights:
        values = tensors[variable.path].astype(np.float32)
        check_finite(path, variable.path, values)
        variable.assign(values)


def check_weights(model: "keras.Model", path: Path) -> None:
    """Check that `load_weights` can fill `model` from `path`, without reading a weight.

    Raises:
        WeightsError: as `load_weights` does.
    """
    _check_fit(model, path, read_shapes(path))


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of all tensors of a safetensors file, by variable path.

    A file that is shorter or longer than its header says is refused.

    Raises:
        WeightsError: it cannot be read as one.
    """
    with _sentences(path), safe_open(path, framework="numpy") as file:
        return {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118


def check_all_finite(path: Path) -> None:
    """Check that no tensor of a safetensors file holds NaN or infinity, one after the other.

    Raises:
        WeightsError: one does; the first is named. Or the file cannot be read.
    """
    with _sentences(path), safe_open(path, framework="numpy") as file:
        for key in file.keys():  # noqa: SIM118
            check_finite(path, key, file.get_tensor(key))


def check_finite(path: Path, name: str, values: NDArray) -> None:
    """Check what was read of a weight file: networks of such weights answer NaN to every image.

    Raises:
        WeightsError: a value is not finite as float32, which networks compute with.
    """
    with np.errstate(over="ignore"):
        bad = int(np.count_nonzero(~np.isfinite(values.astype(np.float32, copy=False))))
    if bad:
        raise WeightsError(
            f"{path}: {name} holds NaN or infinity in {bad:,} of {values.size:,} places; "
            "no network can run on such weights"
        )


def read_tensors(path: Path) -> dict[str, NDArray]:
    """All tensors of a safetensors file, by variable path.

    Raises:
        WeightsError: it cannot be read as one.
    """
    with _sentences(path):
        return load_file(path)


def _check_fit(model: "keras.Model", path: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    expected = {variable.path: tuple(variable.shape) for variable in model.weights}
    for key, shape in expected.items():
        if key not in shapes:
            raise WeightsError(f"{path}: has no weights for {key} of {model.name}")
        if shapes[key] != shape:
            raise WeightsError(f"{path}: {key} has shape {shapes[key]}, {model.name} needs {shape}")
    if extra := sorted(set(shapes) - set(expected)):
        raise WeightsError(f"{path}: holds {extra[0]}, which {model.name} does not have")


@contextmanager
def _sentences(path: Path) -> Iterator[None]:
    """What goes wrong while a safetensors file is read, in a sentence."""
    try:
        yield
    except FileNotFoundError:
        raise WeightsError(f"{path}: there is no such weight file") from None
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path}: not a readable safetensors file ({error})") from error
