"""Weight files of Lungbox: safetensors with Keras variable paths as keys, without code or
pickles."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save

from lungbox.common.files import atomic_write
from lungbox.errors import LungboxError

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
        dtype: `float32`, or `float16` for half the size.

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
    with atomic_write(path, "wb") as file:
        file.write(save(tensors, metadata={"architecture": model.name}))


def load_weights(model: "keras.Model", path: Path) -> None:
    """Fill every weight of `model` from `path`.

    Raises:
        WeightsError: the file is not a safetensors file, its tensors are not the model's (the first
            mismatch is named), or one of them is not finite.
    """
    load_variables(model.weights, path, model.name)


def load_variables(
    variables: "Sequence[keras.Variable]", path: Path, owner: str, subset: bool = False
) -> None:
    """Fill variables from `path`, matched by variable path.

    Args:
        variables: those to fill; none is changed where any does not fit.
        path: a `.safetensors` file.
        owner: name of the network or encoder, for messages.
        subset: whether the file may hold other tensors, too.

    Raises:
        WeightsError: as `load_weights`.
    """
    tensors = read_tensors(path)
    for variable in variables:
        key, shape = variable.path, tuple(variable.shape)
        if key not in tensors:
            raise WeightsError(f"{path}: has no weights for {key} of {owner}")
        if tensors[key].shape != shape:
            raise WeightsError(
                f"{path}: {key} has shape {tensors[key].shape}, {owner} needs {shape}"
            )
        check_finite(path, key, tensors[key])
    extra = sorted(tensors.keys() - {variable.path for variable in variables})
    if extra and not subset:
        raise WeightsError(f"{path}: holds {extra[0]}, which {owner} does not have")
    for variable in variables:
        variable.assign(tensors[variable.path].astype(np.float32))


def check_all_finite(path: Path) -> None:
    """Check that a safetensors file is complete and holds neither NaN nor infinity, reading one
    tensor at a time.

    Raises:
        WeightsError: it is shorter or longer than its header says, a value is not finite (the first
            such tensor is named), or it cannot be read.
    """
    with _weights_errors(path), safe_open(path, framework="numpy") as file:
        for key in file.keys():  # noqa: SIM118
            check_finite(path, key, file.get_tensor(key))


def check_finite(path: Path, name: str, values: NDArray) -> None:
    """Check the values of one tensor of a weight file.

    Raises:
        WeightsError: a value is not finite as float32, in which networks compute.
    """
    with np.errstate(over="ignore"):
        bad = int(np.count_nonzero(~np.isfinite(values.astype(np.float32, copy=False))))
    if bad:
        raise WeightsError(
            f"{path}: {name} holds NaN or infinity in {bad:,} of {values.size:,} values; "
            "no network can run with such weights"
        )


def read_tensors(path: Path) -> dict[str, NDArray]:
    """All tensors of a safetensors file, by variable path.

    Raises:
        WeightsError: it cannot be read.
    """
    with _weights_errors(path):
        return load_file(path)


@contextmanager
def _weights_errors(path: Path) -> Iterator[None]:
    """Errors while a safetensors file is read become a `WeightsError`."""
    try:
        yield
    except FileNotFoundError:
        raise WeightsError(f"{path}: there is no such weight file") from None
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path}: not a readable safetensors file ({error})") from error
