"""The Keras engine: whatever backend and device Keras has."""

from threading import Lock

import keras
import numpy as np
from numpy.typing import NDArray

from lungbox import architecture
from lungbox.architecture.ensemble import average
from lungbox.engines.base import EngineError, Job, Prediction, padded
from lungbox.frameworks import compile_choice, dtype_policy, has_gpu
from lungbox.weights.entries import Precision
from lungbox.weights.files import load_weights
from lungbox.weights.keras2 import load_keras2


class KerasEngine:
    """Runs an ensemble through Keras, in float32 or bfloat16."""

    name = "keras"

    def __init__(self, job: Job) -> None:
        self.job = job
        self._lock = Lock()
        self.precision = _precision(job)
        self._model = build(job, self.precision)
        self._model.compile(jit_compile=compile_choice())

    def predict(self, images: NDArray[np.uint8]) -> Prediction:
        """See `Engine.predict`."""
        # Sent to the device as they are: a quarter of the bytes.
        batch = padded(images, self.job.batch_size)[..., None]
        with self._lock:
            outputs = self._model.predict_on_batch(batch)
        kept = {name: values[: len(images)] for name, values in outputs.items()}
        return Prediction(kept["mask"], kept["image"][:, 0], kept.get("members"))


def _precision(job: Job) -> Precision:
    if job.only == "int8":
        raise EngineError(
            "8-bit integers run in OpenVINO alone: pip install openvino, and --engine openvino"
        )
    if job.only:
        return job.only
    return "bfloat16" if "bfloat16" in job.precisions and has_gpu() else "float32"


def build(job: Job, precision: Precision = "float32") -> keras.Model:
    """The job's ensemble as one Keras network, its weights loaded.

    Raises:
        WeightsError: a file does not fit its network.
    """
    with dtype_policy("mixed_bfloat16" if precision == "bfloat16" else precision):
        networks = []
        for member in job.members:
            network = architecture.build(member.weights.architecture, member.weights.image_size)
            load = load_keras2 if member.weights.format == "keras2" else load_weights
            load(network, member.path)
            networks.append((network, member.share))
        return average(networks, job.keep_members)
