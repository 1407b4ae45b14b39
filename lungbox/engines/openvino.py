"""The OpenVINO engine: the fastest on a CPU.

The network is converted once and kept in the cache folder; after that neither Keras nor
TensorFlow is imported. An INT8 model comes as a file and is converted nowhere.
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

from lungbox.common.backend import silence_openvino, start_keras
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
from lungbox.engines.precision import fastest, obstacle
from lungbox.weights.formats.safetensors import WeightsError, read_tensors
from lungbox.weights.manifest import REDUCED_PRECISIONS, Precision

silence_openvino()
import openvino  # noqa: E402

_XML = "network.xml"
# By the number of their dimensions, see `architecture.ensemble.average`.
_OUTPUTS = {2: "image", 4: "mask", 5: "members"}
# OpenVINO's names of them. Without the hint it takes bfloat16 where the CPU has it. A network of
# 8-bit integers computes in float32 what is not quantised.
_HINTS: dict[Precision, str] = {"float32": "f32", "bfloat16": "bf16", "int8": "f32"}


class OpenVinoEngine:
    """Runs an ensemble through OpenVINO on the CPU."""

    name = "openvino"

    def __init__(self, config: EngineConfig) -> None:
        self._lock = Lock()
        self.precision, self.config, network = _network(config)
        # Static: the fastest code for the one shape there will be.
        network.reshape([config.batch_size, config.image_size, config.image_size, 1])
        hint = _HINTS[self.precision]
        hints = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": hint}
        try:
            compiled = openvino.Core().compile_model(network, "CPU", hints)
            self._request = compiled.create_infer_request()
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise EngineError(
                f"OpenVINO cannot run {config.ensemble} with {config.batch_size} images at once "
                f"({reason}); give a smaller --batch-size"
            ) from error
        # It takes float32 without a word where the processor does not know what it is told.
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
            members = self._output("members", len(images)) if self.config.keep_members else None
            scores = self._output("image", len(images))[:, 0]
            return BatchPrediction(self._output("mask", len(images)), scores, members)

    def _output(self, name: str, count: int) -> NDArray[np.float32]:
        """A copy: the request's own memory is written again by the next batch."""
        return self._request.get_tensor(name).data[:count].copy()


def _network(config: EngineConfig) -> tuple[Precision, EngineConfig, openvino.Model]:
    """What the job is computed in, the job with why in nothing faster, and what runs it."""
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


def _in_precision(config: EngineConfig, precision: Precision) -> openvino.Model:
    return load_int8(config.int8) if precision == "int8" and config.int8 else converted(config)


def save_int8(network: openvino.Model, path: Path) -> None:
    """Write a quantised network as one file, atomically: a safetensors file of two arrays of bytes,
    OpenVINO's `xml` and `bin`, so that it is fetched and checked like any other."""
    with tempfile.TemporaryDirectory() as folder:
        openvino.save_model(network, Path(folder) / _XML, compress_to_fp16=False)
        parts = {
            name: np.fromfile((Path(folder) / _XML).with_suffix(f".{name}"), np.uint8)
            for name in ("xml", "bin")
        }
    with atomic_write(path, "wb") as file:
        file.write(save(parts))


def load_int8(file: Int8) -> openvino.Model:
    """The network that `save_int8` wrote, for any batch size.

    Raises:
        WeightsError: the file is none, or of a version that this OpenVINO cannot read.
    """
    parts = read_tensors(file.path)
    try:
        return openvino.Core().read_model(parts["xml"].tobytes(), openvino.Tensor(parts["bin"]))
    except (KeyError, RuntimeError) as error:
        raise WeightsError(
            f"{file.path}: OpenVINO {openvino.__version__} cannot read it; use --precision float32"
        ) from error


def converted(config: EngineConfig) -> openvino.Model:
    """The job's network in float32, for any batch size, from the cache or converted into it."""
    folder = cache_folder() / "openvino" / _key(config)
    if (folder / _XML).is_file():
        try:
            return openvino.Core().read_model(folder / _XML)
        except RuntimeError:
            pass
    shutil.rmtree(folder, ignore_errors=True)  # damaged, or a part; it can be made again
    _convert(config, folder)
    return openvino.Core().read_model(folder / _XML)


def _key(config: EngineConfig) -> str:
    facts = [
        openvino.__version__,
        code_version(),
        config.keep_members,
        [member.fingerprint for member in config.members],
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:24]


def _convert(config: EngineConfig, folder: Path) -> None:
    """Build the job's network in Keras, convert it and put it in `folder`, whole or not at all."""
    start_keras()  # only where nothing is cached yet
    import keras

    from lungbox.engines.keras import build

    if keras.backend.backend() != "tensorflow":
        raise NotConvertibleError(
            f"OpenVINO converts networks from TensorFlow, and Keras runs on "
            f"{keras.backend.backend()} here; use --engine keras"
        )
    network = build(config)
    converted = _fixed(_traced(network, config))
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        # A folder in it, for the temporary one is closed to others who share the cache.
        (partial / "new").mkdir()
        openvino.save_model(converted, partial / "new" / _XML, compress_to_fp16=False)
        (partial / "new").rename(folder)
    except OSError:
        # Another process was faster, which is as good.
        if not (folder / _XML).is_file():
            raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _traced(network: Any, config: EngineConfig) -> openvino.Model:
    import tensorflow as tf  # OpenVINO reads Keras networks as TensorFlow functions

    @tf.function(
        input_signature=[tf.TensorSpec((None, config.image_size, config.image_size, 1), tf.float32)]
    )
    def forward(images: Any) -> Any:
        return network(images, training=False)

    return from_tensorflow(forward)


def from_tensorflow(function: Any) -> openvino.Model:
    """Convert a TensorFlow function that has a signature."""
    if sys.version_info >= (3, 13):
        import tensorflow as tf

        _mend_converter(tf.__version__)
    return openvino.convert_model(function)


def _mend_converter(version: str) -> None:
    """OpenVINO's converter learns TensorFlow's version by importing it with `exec` and deleting the
    name afterwards; since Python 3.13 (PEP 667) it is not there to be deleted."""
    from openvino.frontend.tensorflow import utils

    utils.get_environment_setup = lambda _: {"tensorflow": version}


def _fixed(converted: openvino.Model) -> openvino.Model:
    """Name the outputs by what they are, and let the input be the prepared 8-bit pixels."""
    for output in converted.outputs:
        output.tensor.set_names({_OUTPUTS[len(output.partial_shape)]})
    steps = openvino.preprocess.PrePostProcessor(converted)
    steps.input().tensor().set_element_type(openvino.Type.u8)
    return steps.build()
