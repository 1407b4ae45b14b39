"""Starting Keras without what its backend tells the world while it loads."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from lungbox.errors import LungboxError

BACKENDS = ("tensorflow", "jax")


class BackendError(LungboxError):
    """Keras is to run on something that Lungbox does not, or that is not installed."""


def start_keras() -> None:
    """Import Keras and its backend, quietly.

    TensorFlow writes about processors and missing GPU drivers to standard error before it can be
    told not to, past Python; what goes wrong still arrives as an exception.

    Raises:
        BackendError: `KERAS_BACKEND` names something else than `BACKENDS`, or it is not installed.
    """
    if "keras" in sys.modules:
        return
    backend = os.environ.get("KERAS_BACKEND", BACKENDS[0])
    if backend not in BACKENDS or not find_spec(backend):
        raise BackendError(
            f"KERAS_BACKEND={backend} is not there; Lungbox runs on {' or '.join(BACKENDS)}, "
            "which have to be installed (JAX: pip install 'lungbox[jax]')"
        )
    with silent_standard_error():
        import keras

        # The first operation makes the backend look for its devices.
        keras.ops.zeros(1)


def silence_openvino() -> None:
    """Call before `import openvino`: nobody is told that it was imported.

    It would tell Intel, through Google Analytics, at every import. It knows how to go without the
    package it does that with.
    """
    if "openvino" not in sys.modules:
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]


def has_gpu() -> bool:
    """Whether Keras' backend sees a GPU."""
    import keras

    try:
        return bool(keras.distribution.list_devices("gpu"))
    except RuntimeError:  # JAX without one does not know the word
        return False


def compile_choice() -> bool | str:
    """What Keras' `jit_compile` should be: its own choice, except on a CPU under TensorFlow, whose
    XLA runs convolutions ten times slower there than oneDNN does."""
    import keras

    if keras.backend.backend() != "tensorflow":
        return "auto"
    return "auto" if has_gpu() else False


def devices_in_step() -> int:
    """How many devices each compute a part of the step that is being traced, whose losses are then
    added up: those of a TensorFlow strategy. On JAX all compute the step as one."""
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow is None or sys.modules["keras"].backend.backend() != "tensorflow":
        return 1
    return int(tensorflow.distribute.get_strategy().num_replicas_in_sync)


@contextmanager
def dtype_policy(name: str) -> Iterator[None]:
    """Build networks under a Keras dtype policy, and leave the global one as it was."""
    import keras

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


@contextmanager
def silent_standard_error() -> Iterator[None]:
    """Inside, nothing reaches standard error, not even from libraries that write past Python."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
