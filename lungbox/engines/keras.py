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
        self._lock = Lock()
        self.precision, self.job = _chosen(job)
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


def _chosen(job: Job) -> tuple[Precision, Job]:
    """What it computes in, and the job with why in nothing faster."""
    if job.only == "int8":
        raise EngineError(
            "8-bit integers run in OpenVINO alone: pip install openvino, and --engine openvino"
        )
    if job.only:
        return job.only, job
    if "int8" in job.precisions:
        job = job.without("int8", "it runs in OpenVINO alone")
    if "bfloat16" not in job.precisions:
        return "float32", job
    if has_gpu():
        return "bfloat16", job
    return "float32", job.without("bfloat16", "Keras sees no GPU, and is faster so only on one")


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
