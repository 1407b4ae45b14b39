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

from lungbox.engines.base import (
    EngineError,
    Int8,
    Job,
    NotConvertibleError,
    Prediction,
    code,
    padded,
)
from lungbox.engines.precision import fastest, obstacle
from lungbox.files import replacing
from lungbox.frameworks import silence_openvino, start_keras
from lungbox.paths import cache_folder
from lungbox.weights.entries import FASTER, Precision
from lungbox.weights.files import WeightsError, read_tensors

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

    def __init__(self, job: Job) -> None:
        self._lock = Lock()
        self.precision, self.job, network = _network(job)
        # Static: the fastest code for the one shape there will be.
        network.reshape([job.batch_size, job.image_size, job.image_size, 1])
        hint = _HINTS[self.precision]
        hints = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": hint}
        try:
            compiled = openvino.Core().compile_model(network, "CPU", hints)
            self._request = compiled.create_infer_request()
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise EngineError(
                f"OpenVINO cannot run {job.ensemble} with {job.batch_size} images at once "
                f"({reason}); give a smaller --batch-size"
            ) from error
        # It takes float32 without a word where the processor does not know what it is told.
        if compiled.get_property("INFERENCE_PRECISION_HINT").to_string() != hint:
            raise EngineError(
                f"this processor does not compute in {self.precision}; use --precision float32"
            )

    def predict(self, images: NDArray[np.uint8]) -> Prediction:
        """See `Engine.predict`."""
        batch = padded(images, self.job.batch_size)[..., None]
        with self._lock:
            try:
                self._request.infer({0: batch}, share_inputs=True)
            except RuntimeError as error:
                raise EngineError(f"OpenVINO cannot run {self.job.ensemble} ({error})") from error
            members = self._output("members", len(images)) if self.job.keep_members else None
            scores = self._output("image", len(images))[:, 0]
            return Prediction(self._output("mask", len(images)), scores, members)

    def _output(self, name: str, count: int) -> NDArray[np.float32]:
        """A copy: the request's own memory is written again by the next batch."""
        return self._request.get_tensor(name).data[:count].copy()


def _network(job: Job) -> tuple[Precision, Job, openvino.Model]:
    """What the job is computed in, the job with why in nothing faster, and what runs it."""
    if job.only:
        return job.only, job, _in_precision(job, job.only)
    for name in FASTER:
        if name in job.precisions and (reason := obstacle(name)):
            job = job.without(name, reason)
    if "int8" in job.precisions:
        try:
            return "int8", job, _in_precision(job, "int8")
        except WeightsError as error:
            job = job.without("int8", str(error).partition(";")[0])
    precision = fastest(job.precisions)
    return precision, job, _in_precision(job, precision)


def _in_precision(job: Job, precision: Precision) -> openvino.Model:
    return load_int8(job.int8) if precision == "int8" and job.int8 else converted(job)


def save_int8(network: openvino.Model, path: Path) -> None:
    """Write a quantised network as one file, atomically: a safetensors file of two arrays of bytes,
    OpenVINO's `xml` and `bin`, so that it is fetched and checked like any other."""
    with tempfile.TemporaryDirectory() as folder:
        openvino.save_model(network, Path(folder) / _XML, compress_to_fp16=False)
        parts = {
            name: np.fromfile((Path(folder) / _XML).with_suffix(f".{name}"), np.uint8)
            for name in ("xml", "bin")
        }
    with replacing(path, "wb") as file:
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


def converted(job: Job) -> openvino.Model:
    """The job's network in float32, for any batch size, from the cache or converted into it."""
    folder = cache_folder() / "openvino" / _key(job)
    if (folder / _XML).is_file():
        try:
            return openvino.Core().read_model(folder / _XML)
        except RuntimeError:
            pass
    shutil.rmtree(folder, ignore_errors=True)  # damaged, or a part; it can be made again
    _convert(job, folder)
    return openvino.Core().read_model(folder / _XML)


def _key(job: Job) -> str:
    facts = [
        openvino.__version__,
        code(),
        job.keep_members,
        [member.facts for member in job.members],
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:24]


def _convert(job: Job, folder: Path) -> None:
    """Build the job's network in Keras, convert it and put it in `folder`, whole or not at all."""
    start_keras()  # only where nothing is cached yet
    import keras

    from lungbox.engines.keras import build

    if keras.backend.backend() != "tensorflow":
        raise NotConvertibleError(
            f"OpenVINO converts networks from TensorFlow, and Keras runs on "
            f"{keras.backend.backend()} here; use --engine keras"
        )
    network = build(job)
    converted = _fixed(_traced(network, job))
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


def _traced(network: Any, job: Job) -> openvino.Model:
    import tensorflow as tf  # OpenVINO reads Keras networks as TensorFlow functions

    @tf.function(
        input_signature=[tf.TensorSpec((None, job.image_size, job.image_size, 1), tf.float32)]
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
