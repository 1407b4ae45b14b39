"""The OpenVINO engine: the fastest on a CPU.

Shipped ensembles have a graph file, which is filled with their weights (`graphs`). Other networks
are converted by Keras and TensorFlow once and cached; later runs import neither. An INT8 model is a
file of its own and needs no conversion.
"""

import hashlib
import json
import shutil
import sys
import tempfile
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from lungbox.common.backend import silence_openvino, start_keras, use_thread_stack_for_signals
from lungbox.common.files import atomic_write
from lungbox.common.paths import cache_folder
from lungbox.engines.base import (
    BatchPrediction,
    EngineConfig,
    EngineError,
    Int8,
    NotConvertibleError,
    code_version,
    pad_batch,
)
from lungbox.weights.entries import REDUCED_PRECISIONS, Precision
from lungbox.weights.formats.safetensors import WeightsError, read_tensors
from lungbox.weights.store import sha256

silence_openvino()
import openvino  # noqa: E402

from lungbox.engines.graphs import graph_file, without_keras  # noqa: E402

_XML = "network.xml"
# OpenVINO's names of precisions. Without a hint it uses bfloat16 where the CPU supports it. The
# layers of an INT8 model that are not quantized compute in float32.
_HINTS: dict[Precision, str] = {"float32": "f32", "bfloat16": "bf16", "int8": "f32"}

_CPU_INFO = Path("/proc/cpuinfo")
# CPU flags that make a precision faster than float32 and exact, and the reason where none is there.
# Without VNNI, products of 8-bit integers are summed in 16 bits, which overflow: boxes would differ
# from those that were checked. With AVX512 but no AMX, bfloat16 is slower than float32
# (docs/benchmarks.md).
_CPU_FLAGS: dict[Precision, tuple[set[str], str]] = {
    "int8": (
        {"avx512_vnni", "avx_vnni", "amx_int8"},
        "this processor cannot add up 8-bit products exactly (no VNNI)",
    ),
    "bfloat16": ({"amx_bf16"}, "this processor has no matrix units for it (no AMX)"),
}


def fastest(allowed: tuple[Precision, ...]) -> Precision:
    """The fastest of the allowed precisions on this CPU; float32 where it is unknown (not Linux).

    >>> fastest(("float32",))
    'float32'
    """
    usable = (name for name in REDUCED_PRECISIONS if name in allowed and not obstacle(name))
    return next(usable, "float32")


def obstacle(precision: Precision) -> str:
    """Why this CPU does not run a reduced precision fast and exactly; empty where it does."""
    try:
        flags = set(_CPU_INFO.read_text(encoding="ascii", errors="ignore").split())
    except OSError:
        flags = set()
    needed, missing = _CPU_FLAGS[precision]
    if flags & needed:
        return ""
    return missing if flags else "processor features are detected on Linux only"


def compile_model(network: openvino.Model | Path, hints: dict[str, str]) -> openvino.CompiledModel:
    """Compile a model, or the file of one, for the CPU.

    Raises:
        RuntimeError: OpenVINO cannot run it.
    """
    compiled = openvino.Core().compile_model(network, "CPU", hints)
    use_thread_stack_for_signals()
    return compiled


class OpenVinoEngine:
    """Runs an ensemble through OpenVINO on the CPU, in float32, bfloat16 or INT8.

    Attributes:
        network_version: see `_network_version`.
    """

    name = "openvino"

    def __init__(self, config: EngineConfig) -> None:
        self._lock = Lock()
        self.precision, self.config, network = _network(config)
        self.network_version = _network_version(self.config, self.precision)
        # A static input shape gives the fastest code.
        network.reshape([config.batch_size, config.image_size, config.image_size, 1])
        hint = _HINTS[self.precision]
        hints = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": hint}
        try:
            compiled = compile_model(network, hints)
            self._request = compiled.create_infer_request()
            self._names = [output.any_name for output in compiled.outputs]
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise EngineError(
                f"OpenVINO cannot run {config.ensemble} at batch size {config.batch_size} "
                f"({reason}); use a smaller --batch-size"
            ) from error
        # OpenVINO falls back to float32 silently where the CPU does not support the hint.
        if compiled.get_property("INFERENCE_PRECISION_HINT").to_string() != hint:
            raise EngineError(
                f"this processor does not compute in {self.precision}; use --precision float32"
            )

    def predict(self, images: NDArray[np.uint8]) -> BatchPrediction:
        """See `Engine.predict`."""
        batch = pad_batch(images, self.config.batch_size)[..., None]
        with self._lock:
            try:
                self._request.infer({0: batch}, share_inputs=True)
            except RuntimeError as error:
                raise EngineError(
                    f"OpenVINO cannot run {self.config.ensemble} ({error})"
                ) from error
            # `from_outputs` copies: the next batch overwrites the request's memory.
            outputs = {name: self._request.get_tensor(name).data for name in self._names}
            return BatchPrediction.from_outputs(outputs, len(images), self.config)


def _network(config: EngineConfig) -> tuple[Precision, EngineConfig, openvino.Model]:
    """The inference precision, the config with notes on faster ones, and the network."""
    if config.only:
        return config.only, config, _in_precision(config, config.only)
    for name in REDUCED_PRECISIONS:
        if name in config.precisions and (reason := obstacle(name)):
            config = config.without(name, reason)
    if "int8" in config.precisions:
        try:
            return "int8", config, _in_precision(config, "int8")
        except WeightsError as error:
            config = config.without("int8", str(error).partition(";")[0])
    precision = fastest(config.precisions)
    return precision, config, _in_precision(config, precision)


def _network_version(config: EngineConfig, precision: Precision) -> str:
    """OpenVINO's version and the hash of the graph file, if there is one, which decide in which
    order constants were computed; empty for an INT8 model, which is a file of its own."""
    if precision == "int8":
        return ""
    graph = graph_file(config)
    return f"{openvino.__version__} {sha256(graph) if graph else ''}"


def _in_precision(config: EngineConfig, precision: Precision) -> openvino.Model:
    return load_int8(config.int8) if precision == "int8" and config.int8 else converted(config)


def save_int8(network: openvino.Model, path: Path) -> None:
    """Write an INT8 model as one file, atomically.

    A safetensors file of two byte arrays, OpenVINO's `xml` and `bin`, so that it is downloaded and
    verified like other weight files.
    """
    with tempfile.TemporaryDirectory() as folder:
        openvino.save_model(network, Path(folder) / _XML, compress_to_fp16=False)
        parts = {
            name: np.fromfile((Path(folder) / _XML).with_suffix(f".{name}"), np.uint8)
            for name in ("xml", "bin")
        }
    with atomic_write(path, "wb") as file:
        file.write(save(parts))


def load_int8(file: Int8) -> openvino.Model:
    """Load the model that `save_int8` wrote, for any batch size.

    Raises:
        WeightsError: it is no such file, or this version of OpenVINO cannot read it.
    """
    parts = read_tensors(file.path)
    try:
        return openvino.Core().read_model(parts["xml"].tobytes(), openvino.Tensor(parts["bin"]))
    except (KeyError, RuntimeError) as error:
        raise WeightsError(
            f"{file.path}: OpenVINO {openvino.__version__} cannot read it; use --precision float32"
        ) from error


def converted(config: EngineConfig) -> openvino.Model:
    """The ensemble in float32 for any batch size: from its graph file, or without one converted by
    Keras and cached."""
    network = without_keras(config)
    if network is not None:
        return network
    folder = cache_folder() / "openvino" / _key(config)
    if (folder / _XML).is_file():
        try:
            return openvino.Core().read_model(folder / _XML)
        except RuntimeError:
            pass
    shutil.rmtree(folder, ignore_errors=True)  # damaged or incomplete: convert again
    _convert(config, folder)
    return openvino.Core().read_model(folder / _XML)


def _key(config: EngineConfig) -> str:
    parts = [openvino.__version__, code_version(), config.keep_members, config.fingerprints]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:24]


def _convert(config: EngineConfig, folder: Path) -> None:
    """Build the ensemble in Keras, convert it and write it to `folder`, atomically."""
    start_keras()  # not needed where the cache has the network
    import keras

    from lungbox.engines.keras import build

    if keras.backend.backend() != "tensorflow":
        raise NotConvertibleError(
            f"OpenVINO converts networks from TensorFlow, and Keras runs on "
            f"{keras.backend.backend()}; use --engine keras"
        )
    network = build(config)
    converted = traced(network, config)
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        # In a subfolder: `mkdtemp` makes folders that other users of the cache cannot read.
        (partial / "new").mkdir()
        openvino.save_model(converted, partial / "new" / _XML, compress_to_fp16=False)
        (partial / "new").rename(folder)
    except OSError:
        # Another process has written it meanwhile.
        if not (folder / _XML).is_file():
            raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def traced(network: Any, config: EngineConfig) -> openvino.Model:
    """Convert a Keras network to OpenVINO, with the ensemble's input and outputs."""
    import tensorflow as tf  # OpenVINO reads Keras networks as TensorFlow functions

    @tf.function(
        input_signature=[tf.TensorSpec((None, config.image_size, config.image_size, 1), tf.float32)]
    )
    def forward(images: Any) -> Any:
        return network(images, training=False)

    return _with_inputs_and_outputs(from_tensorflow(forward), set(network.output))


def from_tensorflow(function: Any) -> openvino.Model:
    """Convert a TensorFlow function that has an input signature."""
    if sys.version_info >= (3, 13):
        import tensorflow as tf

        _patch_converter(tf.__version__)
    return openvino.convert_model(function)


def _patch_converter(version: str) -> None:
    """Give OpenVINO's converter TensorFlow's version.

    It reads the version by importing TensorFlow with `exec` and deleting the name afterwards, which
    fails since Python 3.13 (PEP 667).
    """
    from openvino.frontend.tensorflow import utils

    utils.get_environment_setup = lambda _: {"tensorflow": version}


def _with_inputs_and_outputs(model: openvino.Model, names: set[str]) -> openvino.Model:
    """Keep only Keras' names of the outputs, and make the input uint8."""
    for output in model.outputs:
        output.tensor.set_names(output.get_names() & names)
    steps = openvino.preprocess.PrePostProcessor(model)
    steps.input().tensor().set_element_type(openvino.Type.u8)
    return steps.build()
