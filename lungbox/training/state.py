"""Where a run stands: weights, optimizer and the number of finished epochs, in one file."""

from pathlib import Path

import keras
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from lungbox.files import replacing
from lungbox.weights.files import WeightsError


def save_state(
    path: Path, model: keras.Model, optimizer: keras.optimizers.Optimizer, epochs: int
) -> None:
    """Write what a run needs to go on after `epochs` finished epochs, atomically."""
    tensors = {key: np.asarray(v) for key, v in _variables(model, optimizer).items()}
    with replacing(path, "wb") as file:
        file.write(save(tensors, metadata={"epochs": str(epochs)}))


def finished_epochs(path: Path) -> int:
    """How many epochs the run behind the file has finished; 0 where there is no file.

    Raises:
        WeightsError: the file is damaged.
    """
    if not path.is_file():
        return 0
    try:
        with safe_open(path, framework="numpy") as file:
            return int(file.metadata()["epochs"])
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{path}: is damaged ({error}); remove it to start anew") from error


def load_state(path: Path, model: keras.Model, optimizer: keras.optimizers.Optimizer) -> None:
    """Put `model` and `optimizer` back where they stood; without a file they stay as they are.

    Raises:
        WeightsError: the file belongs to another network or optimizer.
    """
    if not path.is_file():
        return
    variables = _variables(model, optimizer)
    with safe_open(path, framework="numpy") as file:
        if set(file.keys()) != set(variables):
            raise WeightsError(f"{path}: is the state of another network; remove it to start anew")
        for key, variable in variables.items():
            variable.assign(file.get_tensor(key))


def _variables(
    model: keras.Model, optimizer: keras.optimizers.Optimizer
) -> dict[str, keras.Variable]:
    """Every variable that changes in training, numbered, for not all have a lasting path.

    `model.variables`, not `weights`: the states of dropout's random generators are among them.
    """
    ours = {f"model/{i}": variable for i, variable in enumerate(model.variables)}
    return ours | {f"optimizer/{i}": v for i, v in enumerate(optimizer.variables)}
