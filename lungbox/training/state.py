"""The training state in one file: weights, optimizer, random state, number of finished epochs.

Not `keras.callbacks.BackupAndRestore`: resumed by it, a run would leave the curve of an
uninterrupted one. Keras 3.15 saves no states of random generators, so dropout would repeat its
first masks, and writes weights and epoch number to two files in place, which a kill in between
leaves contradicting each other.
"""

from pathlib import Path

import keras
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from lungbox.common.files import atomic_write
from lungbox.weights.formats.safetensors import WeightsError


def save_state(
    path: Path, model: keras.Model, optimizer: keras.optimizers.Optimizer, epochs: int
) -> None:
    """Write the training state after `epochs` finished epochs, atomically."""
    tensors = {key: np.asarray(v) for key, v in _variables(model, optimizer).items()}
    with atomic_write(path, "wb") as file:
        file.write(save(tensors, metadata={"epochs": str(epochs)}))


def finished_epochs(path: Path) -> int:
    """The number of finished epochs in a state file; 0 where there is no file.

    Raises:
        WeightsError: the file is damaged.
    """
    if not path.is_file():
        return 0
    try:
        with safe_open(path, framework="numpy") as file:
            return int(file.metadata()["epochs"])
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{path}: is damaged ({error}); remove it to start again") from error


def load_state(path: Path, model: keras.Model, optimizer: keras.optimizers.Optimizer) -> None:
    """Restore `model` and `optimizer`; without a file they are left as they are.

    Raises:
        WeightsError: the file belongs to another network or optimizer.
    """
    if not path.is_file():
        return
    variables = _variables(model, optimizer)
    with safe_open(path, framework="numpy") as file:
        if set(file.keys()) != set(variables):
            raise WeightsError(f"{path}: belongs to another network; remove it to start again")
        for key, variable in variables.items():
            variable.assign(file.get_tensor(key))


def _variables(
    model: keras.Model, optimizer: keras.optimizers.Optimizer
) -> dict[str, keras.Variable]:
    """All variables that change in training, numbered, as not all have a stable path.

    `model.variables`, not `weights`, for it includes the states of dropout's random generators.
    """
    of_model = {f"model/{i}": variable for i, variable in enumerate(model.variables)}
    return of_model | {f"optimizer/{i}": v for i, v in enumerate(optimizer.variables)}
