"""Inference engines: prepared radiographs in, predictions of an ensemble out."""

from importlib.util import find_spec
from typing import Literal

from lungbox.common.backend import start_keras
from lungbox.engines.base import (
    NOT_FINITE,
    PRECISIONS,
    BatchPrediction,
    Engine,
    EngineConfig,
    EngineError,
    Int8,
    Member,
    NotConvertibleError,
    PrecisionName,
    describe_precision,
    engine_fingerprint,
    finite_rows,
    members,
)
from lungbox.engines.padding import without_padding
from lungbox.engines.views import predict_with_tta
from lungbox.errors import suggest

EngineName = Literal["auto", "keras", "openvino"]
ENGINES: tuple[EngineName, ...] = ("auto", "keras", "openvino")

__all__ = [
    "ENGINES",
    "NOT_FINITE",
    "PRECISIONS",
    "BatchPrediction",
    "Engine",
    "EngineConfig",
    "EngineError",
    "EngineName",
    "Int8",
    "Member",
    "PrecisionName",
    "describe_precision",
    "engine_fingerprint",
    "finite_rows",
    "members",
    "predict_with_tta",
    "start",
    "without_padding",
]


def start(name: EngineName, config: EngineConfig) -> Engine:
    """Start an inference engine.

    Args:
        name: `auto` is OpenVINO where it is installed and the network can be converted, else Keras.
        config: the ensemble, and how to run it.

    Raises:
        EngineError: no engine has that name, it is not installed, or cannot run here.
        WeightsError: a weight file does not fit its network.
    """
    if name not in ENGINES:
        raise EngineError(f"there is no engine {name}; {suggest(name, ENGINES)}")
    if config.batch_size < 1:
        raise EngineError(f"batch size {config.batch_size}: a batch has at least one image")
    if name == "auto":
        if not find_spec("openvino"):
            return start("keras", config.noting("OpenVINO", "it is not installed"))
        try:
            return start("openvino", config)
        except NotConvertibleError as error:
            return start("keras", config.noting("OpenVINO", str(error).partition(";")[0]))
    if name == "openvino":
        if not find_spec("openvino"):
            raise EngineError("OpenVINO is not installed: pip install openvino")
        from lungbox.engines.openvino import OpenVinoEngine

        return OpenVinoEngine(config)
    start_keras()
    from lungbox.engines.keras import KerasEngine

    return KerasEngine(config)
