"""Engines: one small interface, prepared radiographs to masks and image scores."""

from importlib.util import find_spec
from typing import Literal

from lungbox.engines.base import (
    NOT_FINITE,
    Engine,
    EngineError,
    Int8,
    Job,
    Member,
    NotConvertibleError,
    Prediction,
    ask,
    chosen,
    computed_by,
    finite,
    members,
)
from lungbox.engines.precision import PRECISIONS, PrecisionName
from lungbox.errors import hint
from lungbox.frameworks import start_keras

EngineName = Literal["auto", "keras", "openvino"]
ENGINES: tuple[EngineName, ...] = ("auto", "keras", "openvino")

__all__ = [
    "ENGINES",
    "NOT_FINITE",
    "PRECISIONS",
    "Engine",
    "EngineError",
    "EngineName",
    "Int8",
    "Job",
    "Member",
    "PrecisionName",
    "Prediction",
    "ask",
    "chosen",
    "computed_by",
    "finite",
    "members",
    "start",
]


def start(name: EngineName, job: Job) -> Engine:
    """Start the engine called `name` on `job`; `auto` is OpenVINO where it is installed and has,
    or can make, the network.

    Raises:
        EngineError: there is none of that name, it is not installed, or cannot run here.
        WeightsError: a weight file does not fit its network.
    """
    if name not in ENGINES:
        raise EngineError(f"there is no engine {name}; {hint(name, ENGINES)}")
    if job.batch_size < 1:
        raise EngineError(f"a batch has at least one image, not {job.batch_size}")
    if name == "auto":
        if not find_spec("openvino"):
            return start("keras", job.noting("OpenVINO", "it is not installed"))
        try:
            return start("openvino", job)
        except NotConvertibleError as error:
            return start("keras", job.noting("OpenVINO", str(error).partition(";")[0]))
    if name == "openvino":
        if not find_spec("openvino"):
            raise EngineError("OpenVINO is not installed: pip install openvino")
        from lungbox.engines.openvino import OpenVinoEngine

        return OpenVinoEngine(job)
    start_keras()
    from lungbox.engines.keras import KerasEngine

    return KerasEngine(job)
