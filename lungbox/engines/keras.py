"""The Keras engine: runs on whichever backend and device Keras uses."""

from threading import Lock

import keras
import numpy as np
from numpy.typing import NDArray

from lungbox.architecture.ensemble import average
from lungbox.common.backend import compile_choice, dtype_policy, has_gpu
from lungbox.engines.base import BatchPrediction, EngineConfig, EngineError, pad_batch
from lungbox.weights.entries import Precision
from lungbox.weights.formats.keras2 import load_keras2
from lungbox.weights.formats.safetensors import load_weights
from lungbox.weights.networks import build_network


class KerasEngine:
    """Runs an ensemble through Keras, in float32 or bfloat16."""

    name = "keras"

    def __init__(self, config: EngineConfig) -> None:
        self._lock = Lock()
        self.precision, self.config = _chosen(config)
        self._model = build(config, self.precision)
        self._model.compile(jit_compile=compile_choice())

    def predict(self, images: NDArray[np.uint8]) -> BatchPrediction:
        """See `Engine.predict`."""
        # Sent to the device as uint8: a quarter of float32's bytes.
        batch = pad_batch(images, self.config.batch_size)[..., None]
        with self._lock:
            outputs = self._model.predict_on_batch(batch)
        return BatchPrediction.from_outputs(outputs, len(images), self.config)


def _chosen(config: EngineConfig) -> tuple[Precision, EngineConfig]:
    """The inference precision, and the config with a note for each faster one."""
    if config.only == "int8":
        raise EngineError(
            "INT8 models run in OpenVINO only: pip install openvino, and use --engine openvino"
        )
    if config.only:
        return config.only, config
    if "int8" in config.precisions:
        config = config.without("int8", "it runs in OpenVINO only")
    if "bfloat16" not in config.precisions:
        return "float32", config
    if has_gpu():
        return "bfloat16", config
    reason = "in Keras it is faster on GPUs only, and there is none"
    return "float32", config.without("bfloat16", reason)


def build(config: EngineConfig, precision: Precision = "float32") -> keras.Model:
    """Build an ensemble as one Keras model and load its weights.

    Raises:
        WeightsError: a file does not fit its network.
    """
    with dtype_policy("mixed_bfloat16" if precision == "bfloat16" else precision):
        networks = []
        for member in config.members:
            network = build_network(member.weights)
            load = load_keras2 if member.weights.format == "keras2" else load_weights
            load(network, member.path)
            networks.append((network, member.weight))
        return average(
            networks, config.keep_members, config.gate_rows, config.image_score == "mask"
        )
