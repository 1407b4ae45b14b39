"""The OpenVINO engine: the fastest on a CPU.

The network is converted once and kept in the cache folder; after that neither Keras nor
TensorFlow is imported.
"""

import hashlib
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import openvino
from numpy.typing import NDArray

from lungbox.engines.base import EngineError, Job, padded
from lungbox.frameworks import start_keras
from lungbox.paths import cache_folder

# Raise it when the conversion changes: networks converted before are then left alone.
_VERSION = 1
_XML = "network.xml"


class OpenVinoEngine:
    """Runs an ensemble in float32 through OpenVINO on the CPU."""

    name = "openvino"
    precision = "float32"

    def __init__(self, job: Job) -> None:
        self.job = job
        folder = cache_folder() / "openvino" / _key(job)
        if not (folder / _XML).is_file():
            _convert(job, folder)
        core = openvino.Core()
        # Without the hint OpenVINO computes in bfloat16 where the CPU has it.
        hints = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        compiled = core.compile_model(core.read_model(folder / _XML), "CPU", hints)
        self._request = compiled.create_infer_request()

    def predict(self, images: NDArray[np.uint8]) -> tuple[NDArray, NDArray]:
        """See `Engine.predict`."""
        batch = padded(images, self.job.batch_size)[..., None]
        self._request.infer({0: batch}, share_inputs=True)
        mask = self._request.get_tensor("mask").data[: len(images)].copy()
        score = self._request.get_tensor("image").data[: len(images), 0].copy()
        return mask, score


def _key(job: Job) -> str:
    facts = [
        _VERSION,
        openvino.__version__,
        job.batch_size,
        [(m.weights.architecture, m.weights.image_size, m.sha256, m.share) for m in job.members],
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:24]


def _convert(job: Job, folder: Path) -> None:
    """Build the job's network in Keras, convert it and put it in `folder`, whole or not at all."""
    start_keras()  # only where nothing is cached yet
    import keras

    from lungbox.engines.keras import build

    if keras.backend.backend() != "tensorflow":
        raise EngineError(
            f"OpenVINO converts networks from TensorFlow, and Keras runs on "
            f"{keras.backend.backend()} here; use --engine keras"
        )
    network = build(job)
    converted = _fixed(_traced(network, job))
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        openvino.save_model(converted, partial / _XML, compress_to_fp16=False)
        partial.rename(folder)
    except OSError:
        # Another process was faster, which is as good.
        if not (folder / _XML).is_file():
            raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _traced(network: Any, job: Job) -> openvino.Model:
    import tensorflow as tf  # OpenVINO reads Keras networks as TensorFlow functions

    @tf.function(
        input_signature=[
            tf.TensorSpec((job.batch_size, job.image_size, job.image_size, 1), tf.float32)
        ]
    )
    def forward(images: Any) -> Any:
        return network(images, training=False)

    return openvino.convert_model(forward)


def _fixed(converted: openvino.Model) -> openvino.Model:
    """Name the outputs by what they are, and let the input be the prepared 8-bit pixels."""
    for output in converted.outputs:
        image_level = len(output.partial_shape) == 2
        output.tensor.set_names({"image" if image_level else "mask"})
    steps = openvino.preprocess.PrePostProcessor(converted)
    steps.input().tensor().set_element_type(openvino.Type.u8)
    return steps.build()
